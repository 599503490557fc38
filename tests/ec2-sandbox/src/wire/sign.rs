//! The `Authorization` header of Signature Version 4: who, where and which service. Not verified, but demanded.

use hyper::HeaderMap;

use crate::error::ApiError;

/// What a signed request says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    pub access_key: String,
    pub region: String,
    pub service: String,
    pub token: Option<String>,
}

/// Reads the signature of a request.
pub(crate) fn read(headers: &HeaderMap) -> Result<Signature, ApiError> {
    let header = headers.get("authorization").and_then(|value| value.to_str().ok());
    let Some(header) = header else {
        let message = "Request is missing Authentication Token";
        return Err(ApiError::new("MissingAuthenticationToken", 403, message));
    };
    let token = headers.get("x-amz-security-token").and_then(|value| value.to_str().ok()).map(str::to_owned);
    parse(header, token).ok_or_else(not_validated)
}

/// What EC2 says to a request it cannot tell the sender of.
pub(crate) fn not_validated() -> ApiError {
    ApiError::new("AuthFailure", 401, "AWS was not able to validate the provided access credentials")
}

fn parse(header: &str, token: Option<String>) -> Option<Signature> {
    let mut fields = header.strip_prefix("AWS4-HMAC-SHA256 ")?.split(',').map(str::trim);
    let scope = fields.clone().find_map(|field| field.strip_prefix("Credential="))?;
    let signature = fields.find_map(|field| field.strip_prefix("Signature="))?;
    let mut parts = scope.split('/');
    let (access_key, _date, region, service) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next() == Some("aws4_request") && parts.next().is_none();
    let signed = signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit());
    (whole && signed && !access_key.is_empty()).then(|| Signature {
        access_key: access_key.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_and_region_come_from_the_credential_scope() {
        let header = format!(
            "AWS4-HMAC-SHA256 Credential=AKIA123456789012TEST/20261123/cn-north-1/ec2/aws4_request, \
             SignedHeaders=host, Signature={}",
            "a".repeat(64)
        );
        let signature = parse(&header, None).unwrap();
        assert_eq!(
            (signature.access_key.as_str(), signature.region.as_str(), signature.service.as_str()),
            ("AKIA123456789012TEST", "cn-north-1", "ec2")
        );
        assert_eq!(parse(&header.replace("Signature", "Sig"), None), None);
        assert_eq!(parse("Bearer x", None), None);
    }
}
