"""One run of one target with atheris: the arguments are its name, and libFuzzer's.

Does not return: libFuzzer ends the process, with 0 if it has found nothing.
"""

import sys
import warnings

import atheris
from pydicom import filereader, values
from pynetdicom import dsutils
from pynetdicom.dimse_messages import DIMSEMessage

with atheris.instrument_imports(include=["pacsnode.network", "pacsnode.dicom"]):
    from scripts.fuzz_targets import TARGETS

# What takes over from our readers; whole packages of the libraries would take seconds to prepare.
_FURTHER_READERS = (
    DIMSEMessage.decode_msg,
    DIMSEMessage.message_to_primitive,
    dsutils.decode,
    filereader.data_element_generator,
    values.convert_value,
)


def main() -> None:
    """Do what the command line says."""
    name, *arguments = sys.argv[1:]
    for function in _FURTHER_READERS:
        atheris.instrument_func(function)
    warnings.simplefilter("ignore")  # libraries warn of odd values
    with TARGETS[name]() as target:
        atheris.Setup([sys.argv[0], *arguments], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
