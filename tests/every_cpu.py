"""`make test-cpus`: the numeric tests as other kinds of CPU run them, with one thread and two.

PyTorch, oneDNN, MKL and OpenBLAS each choose their kernels by the CPU; environment variables that
they read at import lower the choice. A machine without AVX-512 leaves that row out.

    python -m tests.every_cpu [path or option of pytest ...]
"""

import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
NUMERIC = (
    "tests/alignguard_data/engines/diffusion/test_adapters.py",
    "tests/alignguard_data/engines/diffusion/test_against_diffusers.py",
    "tests/alignguard_data/engines/diffusion/test_generator.py",
    "tests/alignguard_data/engines/diffusion/test_speed.py",
    "tests/alignguard_data/scores",
    "tests/alignguard_data/standin",
    "tests/alignguard_train",
    "tests/test_real_classes.py",
)
"""Files and folders whose tests compare what kernels compute."""
CPUS = {
    "default": ("SSE41", "SSE4_2", "Nehalem"),
    "avx2": ("AVX2", "AVX2", "Haswell"),
    "avx512": ("AVX512_CORE", "AVX512", "SkylakeX"),
}
"""PyTorch's name of a capability to those of oneDNN, MKL and OpenBLAS."""
THREADS = (1, 2)


def settings(cpu: str, threads: int) -> dict[str, str]:
    """Environment variables under which a process computes like that CPU."""
    onednn, mkl, openblas = CPUS[cpu]
    return {
        "ATEN_CPU_CAPABILITY": cpu,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "OPENBLAS_CORETYPE": openblas,
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        # A thread that spins while it waits for one without a core stalls both on a busy machine.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def capability(**changes: str) -> str:
    """What PyTorch says that it uses, in a process of its own."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability().lower())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def rows() -> list[str]:
    """The CPUs that this machine can be, by name."""
    names = list(CPUS)
    os.environ.pop("ATEN_CPU_CAPABILITY", None)
    best = capability()
    return names[: names.index(best) + 1] if best in names else ["default"]


def main(arguments: list[str]) -> int:
    """Run every row; the exit code is 1 where a test failed under any."""
    options = arguments or ["-m", "not slow and not vllm and not browser", *NUMERIC]
    failed = False
    lines = []
    for cpu in rows():
        for threads in THREADS:
            changes = settings(cpu, threads)
            used, started = capability(**changes), time.monotonic()
            code = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", *options],
                cwd=REPOSITORY,
                env={**os.environ, **changes},
            ).returncode
            failed |= code != 0 or used != cpu
            seconds = time.monotonic() - started
            verdict = "passed" if code == 0 else f"failed (pytest: {code})"
            lines.append(
                f"{cpu:8} {threads} threads  PyTorch uses {used}: {verdict}, {seconds:.0f} s"
            )
    sys.stdout.write("\n".join(lines) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
