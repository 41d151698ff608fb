from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_LINES = 300


def test_no_module_of_the_packages_is_longer_than_300_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for package in ("orchestrator", "trainable")
        for path in (ROOT / package).rglob("*.py")
    }
    assert lengths
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}
