from __future__ import annotations

import pickle

from proxygrm.core.errors import UserError


class Special(UserError):
    code = "area.special"


def test_an_error_keeps_its_class_code_and_values_across_processes() -> None:
    for error in (UserError("no file", code="file.missing", path="/x"), Special("no", count=2)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.code, copy.values) == (type(error), str(error), error.code, error.values)
    assert Special("no").code == "area.special"
