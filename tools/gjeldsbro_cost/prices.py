"""What AWS takes, in US dollars before tax. Look each price up before a decision hangs on it.

Region: eu-north-1 (Stockholm), where samconfig.toml deploys to; where only the price of eu-west-1 (Ireland) was at hand
that one stands here, as Stockholm's are the same or a few per cent lower. Free tiers and discounts are left out.
Written down on 2026-11-22. Those of Step Functions and Lambda were seen in copies of AWS's price pages; the others are
list prices as they are commonly known, not looked up on that day. The pages to look at are named.
"""

from typing import Final

EURO_PER_DOLLAR: Final = 0.90
"""An assumption."""

# https://aws.amazon.com/dynamodb/pricing/on-demand/ (eu-west-1)
WRITE_UNIT: Final = 0.7068e-6
READ_UNIT: Final = 0.1414e-6
TABLE_GB_MONTH: Final = 0.283

# https://aws.amazon.com/s3/pricing/ (eu-north-1)
S3_WRITE: Final = 0.005e-3
"""PUT, POST, LIST and the like; deletions are free."""
S3_READ: Final = 0.0004e-3
"""GET and HEAD."""
S3_GB_MONTH: Final = 0.023

# https://aws.amazon.com/lambda/pricing/ (arm64)
LAMBDA_CALL: Final = 0.20e-6
LAMBDA_GB_SECOND: Final = 0.0000133334

# https://aws.amazon.com/step-functions/pricing/ (eu-north-1, standard workflows)
TRANSITION: Final = 0.025e-3

# https://aws.amazon.com/secrets-manager/pricing/ and https://aws.amazon.com/kms/pricing/
SECRET_CALL: Final = 0.05e-4
SECRET_MONTH: Final = 0.40
KEY_CALL: Final = 0.03e-4
KEY_MONTH: Final = 1.00

# https://aws.amazon.com/cloudwatch/pricing/ (eu-west-1)
ALARM_MONTH: Final = 0.10
METRIC_MONTH: Final = 0.30
DASHBOARD_MONTH: Final = 3.00
LOG_GB: Final = 0.57

# https://aws.amazon.com/ec2/pricing/on-demand/ and https://aws.amazon.com/vpc/pricing/ (eu-north-1)
OUT_GB: Final = 0.09
"""From AWS to the internet."""
NAT_HOUR: Final = 0.046
NAT_GB: Final = 0.046
"""Through a NAT gateway, either way: what institutions and receivers send and get, when SubnetIds are set."""
