//! Whose certificate it is: the one name that PostgreSQL compares with a role's.

use super::der::element;

/// The object identifier of a common name, as DER has it.
const COMMON_NAME: &[u8] = b"\x55\x04\x03";

/// The common name (CN) of the subject of a certificate, in DER.
///
/// `None` if it has none or several, or one that is no text: whoever compares it with a name must
/// not be made to see another one than the authority saw that has signed it.
///
/// Nothing of the certificate is checked here.
pub fn tls_common_name(certificate: &[u8]) -> Option<String> {
    let mut names = subject(certificate)?;
    let mut found = None;
    while !names.is_empty() {
        let (0x31, mut parts, rest) = element(names)? else { return None };
        names = rest;
        while !parts.is_empty() {
            let (0x30, part, rest) = element(parts)? else { return None };
            parts = rest;
            let (0x06, kind, value) = element(part)? else { return None };
            if kind == COMMON_NAME && found.replace(text(value)?).is_some() {
                return None;
            }
        }
    }
    found
}

/// `SEQUENCE { SEQUENCE { [0] version, serial, algorithm, issuer, validity, subject, … }, … }`.
fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (0x30, fields, _) = element(certificate)? else { return None };
    let (0x30, mut fields, _) = element(fields)? else { return None };
    if fields.first() == Some(&0xa0) {
        (_, _, fields) = element(fields)?;
    }
    for _before in ["serial", "algorithm", "issuer", "validity"] {
        (_, _, fields) = element(fields)?;
    }
    let (0x30, subject, _) = element(fields)? else { return None };
    Some(subject)
}

/// The kinds of text whose bytes are UTF-8: `UTF8String`, `PrintableString`, `IA5String`.
fn text(value: &[u8]) -> Option<String> {
    let (0x0c | 0x13 | 0x16, text, _) = element(value)? else { return None };
    let text = std::str::from_utf8(text).ok()?;
    let is_plain = !text.is_empty() && !text.contains('\0');
    is_plain.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = CertificateParams::new(["other.example".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn it_is_the_common_name_alone_that_counts() {
        let named = [
            (DnType::OrganizationName, utf8("an organization")),
            (DnType::CommonName, utf8("b\u{e4}nk-reader")),
            (DnType::CountryName, utf8("CH")),
        ];
        assert_eq!(tls_common_name(&certificate(&named)).as_deref(), Some("b\u{e4}nk-reader"));
        let printable = DnValue::PrintableString("reader".try_into().unwrap());
        let named = [(DnType::CommonName, printable)];
        assert_eq!(tls_common_name(&certificate(&named)).as_deref(), Some("reader"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_name() {
        let same_kind = DnType::CustomDnType(vec![2, 5, 4, 3]);
        for names in [
            vec![],
            vec![(DnType::OrganizationName, utf8("reader"))],
            vec![(DnType::CommonName, utf8(""))],
            vec![(DnType::CommonName, utf8("reader\0.example"))],
            vec![(DnType::CommonName, utf8("reader")), (same_kind, utf8("admin"))],
            vec![(DnType::CommonName, DnValue::BmpString("reader".try_into().unwrap()))],
        ] {
            assert_eq!(tls_common_name(&certificate(&names)), None, "{names:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_cut_or_broken_has_no_other_name() {
        let whole = certificate(&[(DnType::CommonName, utf8("reader"))]);
        for end in 0..whole.len() {
            assert_eq!(tls_common_name(&whole[..end]), None);
        }
        for at in 0..whole.len() {
            for byte in [0x00, 0x1f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                // Whatever it says, it is found without a panic, and within the bytes.
                let found = tls_common_name(&broken).unwrap_or_default();
                assert!(found.len() < whole.len());
            }
        }
    }
}
