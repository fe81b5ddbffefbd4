"""verl 0.9.1 on CPUs, without editing the installed verl or vLLM.

verl finds these modules by its own hooks: `VERL_USE_EXTERNAL_MODULES=proxygrm.rl.cpu.platform` (imported with verl,
in every process) and `actor_rollout_ref.model.external_lib=proxygrm.rl.cpu.engine` (imported when the model's
configuration is built, in trainer and workers). What they change in a running process:

- `platform`: registers the platform `cpu` (chosen by `VERL_PLATFORM=cpu`) whose device slots are Ray's *logical*
  GPUs; adds to `torch.cpu` the allocator and random-state functions that verl calls on `torch.<device>`; gives
  `initialize_global_process_group_ray` the backend string `cpu:gloo` (verl would build `cpu:gloo,cpu:gloo`,
  which torch refuses); makes the length the ragged dimension of position ids when all rollouts are equally long.
- `engine`: registers the FSDP2 engine for `cpu`; hides `forward_only` while the reference model is wrapped,
  because verl would use `CPUOffloadPolicy(pin_memory=True)` for it, which needs an accelerator.
- `rollout`: gives verl its own vLLM replica with a worker extension that keeps linear weights unpacked
  (vLLM's CPU layers pack a weight after the first load and drop the original, so new weights could not be
  loaded into them), and starts vLLM's engine by `fork` from the server process, which saves a second import of vLLM.

`nursery` only saves time: Ray's workers are forked from a process that has torch, transformers and vLLM imported.
"""
