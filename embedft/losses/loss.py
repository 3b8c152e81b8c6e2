"""What all losses share: tensors in, a scalar out.

Shape suffixes: B anchors, N negatives an anchor, P labelled pairs, D embedding.
"""

from __future__ import annotations

import inspect
from typing import ClassVar

from torch import nn


class Loss(nn.Module):
    """Base of the losses.

    A subclass says by ``needs_labels`` how it is called:

    - False, a ranking loss: ``loss(anchor_BD, positive_BD, negatives_BND=None, mask_BC=None)``;
      the last is (B, C) bool, of C = B + B·N candidates, the positives and then the negatives:
      candidate c counts for anchor i where [i, c] is True, as it always is of its own positive
    - True, a pair loss: ``loss(first_PD, second_PD, labels_P)``, labels from 0 to 1
    """

    needs_labels: ClassVar[bool]
    short_names: ClassVar[tuple[str, ...]] = ()
    """Further names for ``--loss_function``, in lower case."""

    @property
    def takes_mask(self) -> bool:
        """Whether it can leave candidates out: its ``forward`` has a parameter ``mask_BC``."""
        return "mask_BC" in inspect.signature(self.forward).parameters
