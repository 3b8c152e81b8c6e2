"""The script that completes in a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import Capture

from embedft.cli.main import main


@pytest.mark.slow
def test_bash_completes_subcommands_and_flags(tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(["--print_completion=bash"])
    assert not error.value.code
    script = tmp_path / "embedft.bash"
    script.write_text(capsys.readouterr().out)
    assert script.stat().st_size < 2e6  # read at the first completion of every shell
    subprocess.run(["bash", "-n", str(script)], check=True)

    def completed(*words: str) -> set[str]:
        line = " ".join(words)
        typed = f"""source {script}
COMP_WORDS=({line}) COMP_CWORD={len(words) - 1} COMP_LINE="{line}" COMP_POINT={len(line)}
$(complete -p embedft | sed 's/.*-F \\(\\S*\\).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}" """
        result = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True)
        return set(result.stdout.split())

    assert completed("embedft", "fit", "--batch_s") == {"--batch_size"}
    assert completed("embedft", "fit", "--trainer.max_e") == {"--trainer.max_epochs"}
    assert completed("embedft", "fit", "--model.loss.sc") == {"--model.loss.scale"}
    assert completed("embedft", "mine", "--num") == {"--num_negatives"}
    assert completed("embedft", "va") == {"validate"}
    assert "--quiet" in completed("embedft", "predict", "--")
    assert "mine" in completed("embedft", "m")
