"""What a person may be looked up for (gjeldsinformasjonsloven § 12): nothing else is a reason to disclose debt."""

from typing import Final, Literal, get_args

Purpose = Literal["creditApplication", "changeOfTerms", "payoutControl", "startLoan", "creditAssessment"]
"""A loan applied for, a loan's terms changed, a loan paid out, a municipality's start loan, and a credit bureau's
assessment for any of these."""

PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

USUAL_PURPOSES: Final[tuple[Purpose, ...]] = ("creditApplication", "changeOfTerms", "payoutControl")
"""Those of a financial institution."""

BUREAUS_PURPOSE: Final[Purpose] = "creditAssessment"
"""Here the bureau notifies the person, not we (gjeldsinformasjonsforskriften § 9)."""
