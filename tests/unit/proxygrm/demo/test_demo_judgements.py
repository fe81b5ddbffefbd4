"""The demo by R1-Reward's contract: what its teacher writes, for which seed it errs, and the words of its tokenizer."""

from __future__ import annotations

import random

from proxygrm.critique.prompts import consistency_prompt, r1_prompt, read_r1_prompt
from proxygrm.critique.think_answer import parse
from proxygrm.demo.consistency_judge import reply
from proxygrm.demo.corpus import judgement_corpus
from proxygrm.demo.rule_judge import judge
from proxygrm.demo.scenes import Combination, combinations, draw
from proxygrm.demo.writer import write_judgement

RED = Combination("colour", "square", "red", "blue")


def asked(first: str = "red", second: str = "blue") -> str:
    return r1_prompt(RED.question, first, second, images=0)


def test_every_judgement_is_in_the_format_and_the_consistency_judge_agrees_with_it() -> None:
    for combination in combinations("colour"):
        texts = (combination.response(combination.right), combination.response(combination.wrong))
        for verdict, order in ((1, texts), (2, texts[::-1])):
            judgement = parse(write_judgement(combination.question, *order, combination.right))
            assert (judgement.verdict, judgement.problem) == (verdict, "")
            assert reply(consistency_prompt(judgement.excerpt, judgement.answer_phrase)) == "1"
            other = "response 2 is better" if verdict == 1 else "response 1 is better"
            assert reply(consistency_prompt(judgement.excerpt, other)) == "0"


def test_the_teacher_errs_by_the_seed_and_in_both_orders_alike() -> None:
    image = draw(RED, random.Random(0))
    misread = {seed: judge(image, asked(), 0.5, seed=seed).misread for seed in range(40)}
    assert 8 < sum(misread.values()) < 32
    for seed, wrong in misread.items():
        assert judge(image, asked("blue", "red"), 0.5, seed=seed).misread == wrong
        assert parse(judge(image, asked(), 0.5, seed=seed).critique).verdict == (2 if wrong else 1)


def test_the_tokenizer_s_corpus_has_instructions_and_judgements_alone() -> None:
    texts = list(judgement_corpus(0, n=20, kinds=("colour",)))
    assert all(read_r1_prompt(text) for text in texts[::2])
    assert {parse(text).problem for text in texts[1::2]} == {""}
    assert texts == list(judgement_corpus(0, n=20, kinds=("colour",)))
