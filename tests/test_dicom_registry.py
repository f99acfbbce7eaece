"""The registries that reading has in small, against those of pydicom."""

from __future__ import annotations

import pydicom.uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from ssimrdo.dicom import registry


def test_elements_are_those_of_the_standard():
    keywords = tuple(registry.TAG_OF)
    assert dict(registry.TAG_OF) == {keyword: tag_for_keyword(keyword) for keyword in keywords}
    tags = tuple(registry.TAG_OF.values())
    assert dict(registry.VR_OF) == {tag: dictionary_VR(tag) for tag in tags}


def test_value_representations_are_those_of_the_standard():
    assert {vr.encode() for vr in EXPLICIT_VR_LENGTH_32} == registry.LONG_VRS
    both = registry.LONG_VRS | registry.SHORT_VRS
    # pydicom has choices such as "US or SS" among them.
    assert both == {vr.encode() for vr in VR if len(vr) == 2}
    assert not registry.LONG_VRS & registry.SHORT_VRS


def test_transfer_syntaxes_are_those_of_the_standard():
    assert set(pydicom.uid.UncompressedTransferSyntaxes) == registry.NATIVE_SYNTAXES
    assert set(pydicom.uid.JPEGTransferSyntaxes) == registry.JPEG_SYNTAXES
    assert set(pydicom.uid.JPEGLSTransferSyntaxes) == registry.JPEG_LS_SYNTAXES
    assert set(pydicom.uid.JPEG2000TransferSyntaxes) == registry.JPEG_2000_SYNTAXES


def test_each_uid_is_what_it_is_called():
    named = {
        "IMPLICIT_LITTLE_ENDIAN": pydicom.uid.ImplicitVRLittleEndian,
        "EXPLICIT_LITTLE_ENDIAN": pydicom.uid.ExplicitVRLittleEndian,
        "DEFLATED_LITTLE_ENDIAN": pydicom.uid.DeflatedExplicitVRLittleEndian,
        "EXPLICIT_BIG_ENDIAN": pydicom.uid.ExplicitVRBigEndian,
        "RLE": pydicom.uid.RLELossless,
        "CT_IMAGE": pydicom.uid.CTImageStorage,
    }
    assert {name: getattr(registry, name) for name in named} == named
