//! Channel binding of type `tls-server-end-point` (RFC 5929): the hash of the server's certificate.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

use super::der::element;

// Object identifiers of signature algorithms, as DER has them, with the hash that binds.
const SHA384_OIDS: &[&[u8]] = &[
    // sha384WithRSAEncryption, ecdsa-with-SHA384
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x03",
];
const SHA512_OIDS: &[&[u8]] = &[
    // sha512WithRSAEncryption, ecdsa-with-SHA512
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x04",
];
const SHA256_OIDS: &[&[u8]] = &[
    // sha256WithRSAEncryption, ecdsa-with-SHA256; and MD5 and SHA-1, which RFC 5929 lifts
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x02",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05",
    b"\x2a\x86\x48\xce\x3d\x04\x01",
];

/// What binds a login to a connection whose server has shown this certificate.
///
/// `None` where the RFC names no hash (Ed25519), or leaves it to parameters (RSASSA-PSS):
/// PostgreSQL's server can't bind there either, or only in its newest versions.
pub(crate) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let oid = signature_oid(certificate)?;
    let hash: &'static Algorithm = [(SHA256_OIDS, &SHA256), (SHA384_OIDS, &SHA384)]
        .into_iter()
        .chain([(SHA512_OIDS, &SHA512)])
        .find(|(oids, _)| oids.contains(&oid))?
        .1;
    Some(digest(hash, certificate).as_ref().to_vec())
}

/// The algorithm that a certificate is signed with: `SEQUENCE { tbs, SEQUENCE { OID, … }, … }`.
fn signature_oid(certificate: &[u8]) -> Option<&[u8]> {
    let (0x30, fields, _) = element(certificate)? else { return None };
    let (_, _, rest) = element(fields)?;
    let (0x30, algorithm, _) = element(rest)? else { return None };
    let (0x06, oid, _) = element(algorithm)? else { return None };
    Some(oid)
}
