//! The envelope of replies.

use super::xml::Xml;
use crate::error::ApiError;

/// A success.
pub(crate) fn success(service: &str, action: &str, request_id: &str, result: &str) -> String {
    let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    match service {
        "ec2" => format!(
            "{declaration}<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
             <requestId>{request_id}</requestId>{result}</{action}Response>"
        ),
        _ => {
            let namespace = match service {
                "iam" => "https://iam.amazonaws.com/doc/2010-05-08/",
                _ => "https://sts.amazonaws.com/doc/2011-06-15/",
            };
            format!(
                "<{action}Response xmlns=\"{namespace}\"><{action}Result>{result}</{action}Result>\
                 <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
            )
        }
    }
}

/// A refusal.
pub(crate) fn failure(service: &str, request_id: &str, error: &ApiError) -> String {
    let mut xml = Xml::default();
    if service == "ec2" {
        xml.nest("Response", |xml| {
            xml.nest("Errors", |xml| {
                xml.nest("Error", |xml| {
                    xml.leaf("Code", &error.code);
                    xml.leaf("Message", &error.message);
                });
            });
            xml.leaf("RequestID", request_id);
        });
    } else {
        xml.nest("ErrorResponse", |xml| {
            xml.nest("Error", |xml| {
                xml.leaf("Type", if error.status >= 500 { "Receiver" } else { "Sender" });
                xml.leaf("Code", &error.code);
                xml.leaf("Message", &error.message);
            });
            xml.leaf("RequestId", request_id);
        });
    }
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", xml.finish())
}
