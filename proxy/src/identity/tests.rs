//! A signer of the test's own: what is asked of it, and which of its answers are believed.

use super::certify::{Error, Request, accept};
use crate::tls::testing::{Authority, Leaf};
use linkerd2_proxy_api::identity::CertifyResponse;
use std::time::{Duration, SystemTime};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

const WEB: &str = "web.demo.serviceaccount.identity.mesh.cluster.local";

#[test]
fn a_request_has_one_name_an_empty_subject_and_a_p256_key() {
    let request = Request::new(WEB).unwrap();
    let (rest, csr) = X509CertificationRequest::from_der(&request.csr).unwrap();
    assert!(rest.is_empty());
    assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
    let names: Vec<_> = csr
        .requested_extensions()
        .unwrap()
        .filter_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(names, [GeneralName::DNSName(WEB)]);
    // 0x04, x and y: an uncompressed point of a 256-bit curve.
    assert_eq!(csr.certification_request_info.subject_pki.subject_public_key.data.len(), 65);
}

/// Asks, has the answer made by `answer`, and says whether it was believed.
fn answered(answer: impl FnOnce(&Authority, &[u8]) -> CertifyResponse) -> Result<SystemTime, Error> {
    let ca = Authority::default();
    let request = Request::new(WEB).unwrap();
    let answer = answer(&ca, &request.csr);
    accept(WEB, request, answer, ca.roots()).map(|issued| issued.expires)
}

fn good(ca: &Authority, csr: &[u8], leaf: Leaf) -> CertifyResponse {
    let valid_until = Some(leaf.not_after.into());
    CertifyResponse {
        leaf_certificate: ca.sign(csr, leaf).to_vec(),
        intermediate_certificates: vec![],
        valid_until,
    }
}

#[test]
fn a_good_answer_is_believed_until_the_earlier_of_both_ends() {
    let expires = answered(|ca, csr| {
        let mut answer = good(ca, csr, Leaf::named(WEB));
        answer.valid_until = Some((SystemTime::now() + Duration::from_secs(60)).into());
        answer
    })
    .unwrap();
    assert!(expires <= SystemTime::now() + Duration::from_secs(60));
}

#[test]
fn answers_that_prove_nothing_are_failures() {
    let past = SystemTime::now() - Duration::from_secs(60);
    type Answer = Box<dyn FnOnce(&Authority, &[u8]) -> CertifyResponse>;
    let cases: Vec<(&str, Answer)> = vec![
        (
            "another name",
            Box::new(|ca, csr| {
                good(ca, csr, Leaf::named("x.demo.serviceaccount.identity.mesh.cluster.local"))
            }),
        ),
        ("expired", Box::new(move |ca, csr| good(ca, csr, Leaf { not_after: past, ..Leaf::named(WEB) }))),
        ("another authority", Box::new(|_, csr| good(&Authority::default(), csr, Leaf::named(WEB)))),
        ("another key", Box::new(|ca, _| good(ca, &Request::new(WEB).unwrap().csr, Leaf::named(WEB)))),
        (
            "no expiry",
            Box::new(|ca, csr| CertifyResponse { valid_until: None, ..good(ca, csr, Leaf::named(WEB)) }),
        ),
        (
            "garbage",
            Box::new(|ca, csr| CertifyResponse {
                leaf_certificate: b"leaf".to_vec(),
                ..good(ca, csr, Leaf::named(WEB))
            }),
        ),
    ];
    for (case, answer) in cases {
        assert!(answered(answer).is_err(), "{case}");
    }
}
