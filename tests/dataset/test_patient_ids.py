import polars as pl
import pytest

from trcgl.dataset.patient_ids import doubtful, one_spelling


def test_spellings_of_one_number_are_one_patient():
    patients = pl.Series(["7", "7.0", "0007", "8", "70", "7.5"])
    same, notices = one_spelling(patients)
    assert same.to_list() == ["7", "7", "7", "8", "70", "7.5"]
    assert "1 patients are spelled in several ways (such as 7, 7.0, 0007)" in notices[0]


@pytest.mark.parametrize("other", ["P7", "p7\u200b", "ｐ７".translate({0xFF50: "p", 0xFF17: "7"}), "p7\u00a0"])
def test_case_and_invisible_characters_make_no_other_patient(other):
    assert one_spelling(pl.Series(["p7", other]))[0].to_list() == ["p7", "p7"]


def test_patients_of_one_spelling_stay_as_they_are():
    patients = pl.Series(["839860488694292331637988185681460900001", "007", "a-1"])
    assert one_spelling(patients) == (patients, ()) or one_spelling(patients)[0].equals(patients)


@pytest.mark.parametrize("rounded", ["1.23457E+15", "1,23E+15", "3.24e+38", "1E+15"])
def test_a_number_that_a_spreadsheet_rounded_is_no_identifier(rounded):
    assert "16 of 24 images have a patient such as 1.23E+15" in doubtful(pl.Series([rounded] * 16 + ["p"] * 8))[0]


def test_a_patient_with_a_large_part_of_the_images_is_mentioned():
    assert (
        "one patient has 30 of 100 images" in doubtful(pl.Series(["ANON"] * 30 + [f"p{row}" for row in range(70)]))[0]
    )
    assert doubtful(pl.Series([f"p{row // 5}" for row in range(100)])) == ()
