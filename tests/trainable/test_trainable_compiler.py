"""The stand-in for PyTorch's compiler, in processes of its own: it is there once a process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

START = """
import sys
from trainable.compiler import defer
defer()

def loaded():
    return "torch._dynamo.eval_frame" in sys.modules
"""


def run(program: str, start: str = START) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TRAINING = """
import torch, torchvision
from trainable.graphs import trace
torch.manual_seed(0)
network = torchvision.models.mobilenet_v3_small(num_classes=3)
trace(network, image_size=32)
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))]})
for _ in range(2):
    optimizer.zero_grad()
    network(torch.ones(2, 3, 32, 32)).sum().backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
print(sum(value.double().sum() for value in network.state_dict().values()).item())
"""


def test_training_does_without_the_compiler_and_comes_to_the_same() -> None:
    absent = run(TRAINING + "assert not loaded()")
    present = run(TRAINING + "import torch._dynamo.eval_frame", start="")
    assert absent == present


@pytest.mark.parametrize(
    "asking",
    [
        "assert torch._dynamo.config.verbose is False",
        "import torch._dynamo.backends.registry",
        "from torch._dynamo.utils import counters",
        "assert torch.compile(torch.sin, backend='eager')(torch.zeros(2)).sum() == 0",
        "@torch.compiler.disable\ndef f(): ...",
        "torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))",
    ],
)
def test_whoever_asks_for_more_gets_the_real_one(asking: str) -> None:
    run(
        "import torch\nfrom torch._dynamo.utils import is_compile_supported\n"
        "assert not loaded()\n" + asking + "\n"
        "assert loaded() and is_compile_supported('cpu')\n"
        "from torch._dynamo import config\n"
        "assert torch._dynamo is sys.modules['torch._dynamo']\n"
        "assert config is torch._dynamo.config is sys.modules['torch._dynamo.config']\n"
        "assert torch._dynamo.utils is sys.modules['torch._dynamo.utils']\n"
        "assert 'trainable.compiler' not in {type(each).__module__ for each in sys.meta_path}"
    )


def test_what_was_not_to_be_compiled_is_not_compiled_later_either() -> None:
    run(
        """
        import torch
        from torch._compile import _disable_dynamo

        @_disable_dynamo
        def kept(x):
            return x + 1

        assert kept(torch.zeros(1)) == 1 and not loaded()
        compiled = torch.compile(lambda x: kept(x.sin()).cos(), backend="eager", fullgraph=True)
        try:
            compiled(torch.zeros(1))
        except torch._dynamo.exc.Unsupported:
            assert kept(torch.zeros(1)) == 1
        else:
            raise AssertionError("it was compiled")
        """
    )


def test_threads_may_ask_at_once() -> None:
    run(
        """
        import importlib, threading, torch
        names = ["config", "exc", "utils", "guards", "backends.registry", "trace_rules"] * 2
        found = []

        def ask(name):
            module = importlib.import_module(f"torch._dynamo.{name}")
            found.append(module is sys.modules[f"torch._dynamo.{name}"])

        threads = [threading.Thread(target=ask, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [True] * len(names), found
        assert torch._dynamo.config is importlib.import_module("torch._dynamo.config")
        """
    )


def test_looking_through_all_modules_does_not_call_for_it() -> None:
    run(
        """
        import inspect, pickle, torch, torchvision
        inspect.getmodule(torch.nn.Linear)
        pickle.dumps(torch.nn.Linear(2, 2))
        for module in list(sys.modules.values()):
            hasattr(module, "__file__")
        assert not loaded()
        """
    )


def test_one_that_is_here_already_stays() -> None:
    run(
        "assert loaded() and type(torch._dynamo).__name__ == 'module'",
        "import sys\nimport torch._dynamo\n" + START,
    )
