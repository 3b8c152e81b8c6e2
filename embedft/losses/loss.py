"""What all losses share: tensors in, a scalar out.

Shape suffixes: B anchors, N negatives an anchor, P labelled pairs, D embedding.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Loss(nn.Module):
    """Base of the losses.

    A subclass says by ``needs_labels`` how it is called:

    - False, a ranking loss: ``loss(anchor_BD, positive_BD, negatives_BND=None, wrong_BBN=None)``;
      the last is (B, B, N) bool: negative [j, n] counts for anchor i where [i, j, n] is True
    - True, a pair loss: ``loss(first_PD, second_PD, labels_P)``, labels from 0 to 1
    """

    needs_labels: ClassVar[bool]
