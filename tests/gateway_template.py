"""A deployed template's API in small, as the gateway reads it."""

from typing import Any


def _method(function: str) -> dict[str, Any]:
    uri = "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${" + function + ".Arn}/invocations"
    return {"x-amazon-apigateway-integration": {"type": "aws_proxy", "uri": {"Fn::Sub": uri}}}


def _response(text: str, **values: Any) -> dict[str, Any]:
    body = f'{{"errorMessage": "{text}", "timestamp": "$context.requestTime", "uuid": "$context.requestId"}}'
    return {"responseTemplates": {"application/json": body}, **values}


def deployed(*, rate: Any = 1000, burst: Any = 1000) -> dict[str, Any]:
    """A processed template with a push route, another method, and everything else."""
    body = {
        "paths": {
            "/{proxy+}": {"x-amazon-apigateway-any-method": _method("RestFunction")},
            "/debt-information/v1/loans": {"post": _method("PushFunction")},
            "/persons/{id}": {"get": _method("PersonFunction")},
        },
        "x-amazon-apigateway-binary-media-types": ["*/*"],
        "x-amazon-apigateway-gateway-responses": {
            "REQUEST_TOO_LARGE": _response("too large", statusCode="413"),
            "THROTTLED": _response(
                "later", statusCode="429", responseParameters={"gatewayresponse.header.Retry-After": "'5'"}
            ),
            "MISSING_AUTHENTICATION_TOKEN": _response("nothing here", statusCode="404"),
            "DEFAULT_4XX": _response("refused"),
            "DEFAULT_5XX": _response("ours", responseParameters={"gatewayresponse.header.Retry-After": "'30'"}),
        },
    }
    settings = [{"ThrottlingRateLimit": rate, "ThrottlingBurstLimit": burst}]
    return {
        "Resources": {
            "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Body": body}},
            "ApiStage": {"Type": "AWS::ApiGateway::Stage", "Properties": {"MethodSettings": settings}},
        },
    }
