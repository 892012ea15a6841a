"""What an offer promised beside what nvidia-smi found on the machine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .models import Attempt, Session


@dataclass(frozen=True, kw_only=True)
class Compared:
    name: str
    sold: str
    found: str
    same: bool | None  # None: not read yet, or nothing to compare with


def compared(session: Session, attempt: Attempt | None) -> list[Compared]:
    facts, found = (attempt.offer if attempt else {}), session.found
    gpus = found.get("gpus", [])
    wrong_memory = [" MB on each GPU" in p for p in found.get("problems", [])]
    count = facts.get("gpu_count") or session.gpu_count
    memory = facts.get("gpu_memory_mb") or session.gpu_memory_mb
    return [
        Compared(
            name="GPU", sold=f"{count}× {facts.get('gpu_name') or session.gpu_name}",
            found=models(gpus) if found else "", same=all(wrong_memory) if found else None,
        ),
        Compared(
            name="Memory per GPU", sold=f"{memory:,} MB" if memory else "not said",
            found=", ".join(sorted({f"{mb:,} MB" for _, mb in gpus})) if found else "",
            same=not any(wrong_memory) if found and memory else None,
        ),
        Compared(
            name="Driver", sold=facts.get("driver_version") or "not said",
            found=found.get("driver", ""), same=None,
        ),
        Compared(
            name="CUDA, at most", sold=facts.get("cuda_max") or "not said",
            found=found.get("cuda", ""), same=None,
        ),
    ]  # fmt: skip


def models(gpus: Iterable[Sequence]) -> str:
    names = [str(gpu[0]) for gpu in gpus]
    return ", ".join(f"{names.count(n)}× {n}" for n in dict.fromkeys(names)) or "no GPU at all"
