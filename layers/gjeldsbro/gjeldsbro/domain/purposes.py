"""What a person may be looked up for (gjeldsinformasjonsloven § 12): nothing else is a reason to disclose debt."""

from typing import Literal

Purpose = Literal["creditApplication", "changeOfTerms", "payoutControl", "startLoan", "creditAssessment"]
"""An application for credit, a change of a loan's terms, a control before paying out, a municipality's start loan, and
a credit bureau's assessment on behalf of those that may ask themselves."""

USUAL_PURPOSES: tuple[Purpose, ...] = ("creditApplication", "changeOfTerms", "payoutControl")
"""Those of a financial institution."""

BUREAUS_PURPOSE: Purpose = "creditAssessment"
"""Here the bureau notifies the person, not we (gjeldsinformasjonsforskriften § 9)."""
