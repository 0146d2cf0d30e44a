"""What a machine without a workspace does: verify and load models under a trust bundle.

from pathlib import Path
from keepstone.trust import open_bundle

trusted = open_bundle(Path("fraud.trust"), outside=Path("state"), trust_key=KEY_ID)
model = trusted.load(Path("fraud.onnx"), "fraud")
"""

from keepstone.trust.opening import Trusted, open_bundle

__all__ = ["Trusted", "open_bundle"]
