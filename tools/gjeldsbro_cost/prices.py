"""What AWS takes, in US dollars before tax. Look each price up before a decision hangs on it.

Region: eu-north-1 (Stockholm), where samconfig.toml deploys to; where only the price of eu-west-1 (Ireland) was found
that one stands here. Where both were found, Stockholm's were the same or about five per cent lower. Free tiers and
discounts are left out.

Looked up on 2026-11-22, not in AWS's price list itself but in what others had copied from it, with the list's date:

- Stockholm: DynamoDB (2026-09-11), the hour of a NAT gateway (August 2026).
- Stockholm, in somebody's table of April 2026 that names no list: a gigabyte through a NAT gateway, what S3 stores, a
  secret and its calls.
- Ireland: S3 (2026-09-28), Lambda on arm64 (September 2026), Step Functions (2025-08-28), Secrets Manager (2026-09-11),
  alarms, metrics and logs (2026-09-22), from AWS to the internet (2026-09-16).
- No Region's own: a dashboard (a price list), a key (AWS's price page).
- Only another Region's (us-west-2): the calls of a key.

So S3's requests, Lambda, Step Functions, alarms, metrics, logs, what leaves for the internet and the calls of a key
were not found for Stockholm, but that the table of April says 0.54 of logs. The pages to look at are named.
"""

from typing import Final

EURO_PER_DOLLAR: Final = 0.90
"""An assumption."""

# https://aws.amazon.com/dynamodb/pricing/on-demand/ (eu-north-1)
WRITE_UNIT: Final = 0.67e-6
READ_UNIT: Final = 0.1345e-6
TABLE_GB_MONTH: Final = 0.269

# https://aws.amazon.com/s3/pricing/ (eu-west-1)
S3_WRITE: Final = 0.005e-3
"""PUT, POST, LIST and the like; deletions are free."""
S3_READ: Final = 0.0004e-3
"""GET and HEAD."""
S3_GB_MONTH: Final = 0.023

# https://aws.amazon.com/lambda/pricing/ (eu-west-1, arm64)
LAMBDA_CALL: Final = 0.20e-6
LAMBDA_GB_SECOND: Final = 0.0000133334

# https://aws.amazon.com/step-functions/pricing/ (eu-west-1, standard workflows)
TRANSITION: Final = 0.025e-3

# https://aws.amazon.com/secrets-manager/pricing/ (eu-west-1) and https://aws.amazon.com/kms/pricing/
SECRET_CALL: Final = 0.05e-4
SECRET_MONTH: Final = 0.40
KEY_CALL: Final = 0.03e-4
KEY_MONTH: Final = 1.00

# https://aws.amazon.com/cloudwatch/pricing/ (eu-west-1)
ALARM_MONTH: Final = 0.10
METRIC_MONTH: Final = 0.30
DASHBOARD_MONTH: Final = 3.00
LOG_GB: Final = 0.57

# https://aws.amazon.com/ec2/pricing/on-demand/ (eu-west-1) and https://aws.amazon.com/vpc/pricing/ (eu-north-1)
OUT_GB: Final = 0.09
"""From AWS to the internet."""
NAT_HOUR: Final = 0.046
NAT_GB: Final = 0.046
"""Through a NAT gateway, either way: what institutions and receivers send and get, when SubnetIds are set."""
