"""Chromium, headless and offline, looking at a page."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1000,1400",
)


@dataclass(frozen=True)
class Browser:
    program: str
    page: Path

    def dom(self) -> str:
        """The page as it stands once it is loaded."""
        return self._look("--dump-dom")

    def picture(self, *more: str) -> bytes:
        shot = self.page.with_suffix(".png")
        self._look(f"--screenshot={shot}", *more)
        return shot.read_bytes()

    def _look(self, *more: str) -> str:
        profile = f"--user-data-dir={self.page.parent}/profile"
        done = subprocess.run(
            [self.program, *_FLAGS, profile, *more, self.page.as_uri()],
            capture_output=True,
            timeout=120,
            check=True,
        )
        return done.stdout.decode()
