"""The commands of docs/INSTALL.md and docs/OPERATIONS.md: fenced blocks of `bash`, by section, run as a user would run them."""
import os
import re
import subprocess

import toolbox

FENCE = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)


def sections(page):
    """[(title, [block])] of a page, those that have blocks."""
    parts = re.split(r"^## (.+)$", (toolbox.ROOT / page).read_text(), flags=re.M)
    found = [(title, FENCE.findall(text)) for title, text in zip(parts[1::2], parts[2::2])]
    return [(title, blocks) for title, blocks in found if blocks]


class Shell:
    """Runs blocks from the root of the checkout, with kubectl, helm and curl that are inside the node's network."""

    def __init__(self, node, folder):
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        inside = " ".join(node.inside.enter())
        for name, command in (("kubectl", f"{node.kk} kubectl --kubeconfig {node.kubeconfig}"),
                              ("helm", f"{toolbox.tool('helm')} --kubeconfig {node.kubeconfig}"), ("curl", "/usr/bin/curl --max-time 15")):
            (programs / name).write_text(f'#!/bin/sh\nexec {inside} {command} "$@"\n')
            (programs / name).chmod(0o755)
        self.env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "DIR": str(folder), "HELM_CACHE_HOME": str(folder / "helm")}

    def run(self, block, timeout=300):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=toolbox.ROOT, env=self.env, capture_output=True, text=True,
                              timeout=timeout, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout
