"""The base class of all losses: tensors in, a scalar out.

Shape suffixes: B anchors, C candidates, N negatives per anchor, P labelled pairs, D embedding.
"""

from __future__ import annotations

import inspect
from typing import ClassVar

from torch import nn


class Loss(nn.Module):
    """Base class of the losses.

    A subclass sets ``needs_labels``, which says how it is called:

    - False, a ranking loss: ``loss(anchor_BD, positive_BD, negatives_BND=None, mask_BC=None)``.
      The C = B + B·N candidates are the positives, then the negatives. ``mask_BC`` is (B, C) bool:
      [i, c] is True if candidate c counts for anchor i. It is always True at [i, i].
    - True, a pair loss: ``loss(first_PD, second_PD, labels_P)``, with labels from 0 to 1.
    """

    needs_labels: ClassVar[bool]
    short_names: ClassVar[tuple[str, ...]] = ()
    """Further names for ``--loss_function``, in lower case."""

    @property
    def takes_mask(self) -> bool:
        """Whether it can exclude candidates: ``forward`` has a parameter ``mask_BC``."""
        return "mask_BC" in inspect.signature(self.forward).parameters
