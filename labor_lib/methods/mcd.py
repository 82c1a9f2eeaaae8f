"""Maximum classifier discrepancy: two classifiers that agree on the source, pushed apart.

Saito et al., CVPR 2018. LabOR uses the pushing only; both public accounts of its loss 6 are here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def l1_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Mean |softmax 1 - softmax 2| over pixels and classes (MCD, eq. 1).

    first, second: logits, B x C x h x w. The classifiers *maximise* this: subtract it.
    """
    return (first.softmax(dim=1) - second.softmax(dim=1)).abs().mean()


def parameter_similarity(first: nn.Module, second: nn.Module) -> Tensor:
    """Cosine between the two classifiers' parameters, in [-1, 1]; minimising it parts them."""
    a, b = (
        torch.cat([parameter.flatten() for parameter in module.parameters()])
        for module in (first, second)
    )
    return F.cosine_similarity(a, b, dim=0)
