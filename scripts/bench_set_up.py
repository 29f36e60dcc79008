"""How long an association takes to be set up: from asking for the TCP connection to the answer."""

import time
from dataclasses import dataclass

from bench_requestor import VERIFICATION, Association, associate_rq
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    EnhancedCTImageStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AllStoragePresentationContexts

_MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: their ids are the odd numbers of one byte


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed; each Abstract Syntax with three Transfer Syntaxes.

    Attributes:
        name: for the tables.
        abstract_syntaxes: one for each Presentation Context.
    """

    name: str
    abstract_syntaxes: list[UID]


# A modality with several kinds of objects, and a sender that proposes all there are.
USUAL = Proposal(
    "10 contexts",
    [
        VERIFICATION,
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        CTImageStorage,
        EnhancedCTImageStorage,
        MRImageStorage,
        SecondaryCaptureImageStorage,
        GrayscaleSoftcopyPresentationStateStorage,
        BasicTextSRStorage,
        EncapsulatedPDFStorage,
    ],
)
EVERYTHING = Proposal(
    "128 contexts",
    [UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts][
        :_MOST_CONTEXTS
    ],
)


def set_up_seconds(address: tuple[str, int], called_ae_title: str, proposal: Proposal) -> float:
    """Return the time from asking for the TCP connection to having read the A-ASSOCIATE-AC.

    The association is released afterwards, which does not count.

    Raises:
        OSError: there is no connection, or it was lost.
        RequestorError: the association was not accepted.
    """
    request = associate_rq(called_ae_title, proposal.abstract_syntaxes)
    started_at = time.perf_counter()
    with Association(address, request):
        return time.perf_counter() - started_at
