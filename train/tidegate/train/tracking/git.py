"""The commit that a run was made from."""

import shutil
import subprocess


def git_commit() -> str:
    """The commit that the working directory stands on; empty outside a repository."""
    git = shutil.which("git")
    if git is None:
        return ""
    answer = subprocess.run(  # noqa: S603 - fixed arguments
        [git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""
