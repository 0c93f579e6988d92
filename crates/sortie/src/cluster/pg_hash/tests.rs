//! Vectors taken from a PostgreSQL server; see `tests/it/shard_map.rs` for whole routes.

use super::{int, row, text};

#[test]
fn hashes_are_those_of_the_server() {
    let vectors = [
        (int(0), 0xc2e3_4bda_39f0_f0cd, 0x0c84_40b7_4fd6_99b0),
        (int(1), 0x52d6_2105_8124_e6d5, 0x9c77_15e2_970a_8fb8),
        (int(-1), 0xba5f_c748_0956_06c2, 0x0400_bc25_1f3b_afa5),
        (int(42), 0x6632_18bc_fb84_b17f, 0xafd3_0d9a_116a_5a62),
        (int(i64::MAX), 0x4489_3a0f_1e94_9193, 0x8e2a_2eec_347a_3a76),
        (int(i64::MIN), 0xac09_237e_4899_f89c, 0xf5aa_185b_5e7f_a17f),
        (text(""), 0xb0e3_3d0b_543f_bfc3, 0xfa84_31e8_6a25_68a6),
        (text("hello"), 0xdb6d_9b35_c2a0_82b1, 0x250e_9012_d886_2b94),
        (text("naïve"), 0x2aea_5449_03a6_c4d3, 0x748b_4926_198c_6db6),
        (text("xxxxxxxxxxxx"), 0x1689_cd3c_fd88_9345, 0x602a_c21a_136e_3c28),
    ];
    for (place, (hash, expected, dividend)) in vectors.into_iter().enumerate() {
        assert_eq!(hash, expected, "hash of vector {place}");
        assert_eq!(row(hash), dividend, "dividend of vector {place}");
    }
}
