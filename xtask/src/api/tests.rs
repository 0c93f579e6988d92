use super::*;

#[test]
fn a_difference_says_what_went_and_what_came() {
    assert_eq!(difference("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
    assert!(difference("a\n", "a\n").is_empty());
}

#[track_caller]
fn check(source: &str, expected: &[&str]) {
    let mut lines = items::signatures(&[strip::strip(source)]);
    lines.sort();
    assert_eq!(lines, expected);
}

#[test]
fn functions_and_methods() {
    check(
        r#"
        /// Docs { with a brace.
        pub struct Flight<K> { key: K, /* } */ pub age: Duration, }

        impl<K: Eq> Flight<K>
        where
            K: Hash,
        {
            pub async fn run(
                &self,
                key: K,
            ) -> Result<(), Vec<u8>> {
                let text = "} pub fn no()"; let brace = '{';
            }
            pub(crate) fn hidden(&self) {}
            fn private<'a>(&'a self) {}
        }

        pub const fn most() -> usize { 3 }
        "#,
        &[
            "impl<K: Eq> Flight<K> where K: Hash: pub async fn run(&self, key: K) \
             -> Result<(), Vec<u8>>",
            "pub const fn most() -> usize",
            "pub struct Flight<K>",
            "pub struct Flight<K>: pub age: Duration",
        ],
    );
}

#[test]
fn types_traits_and_constants() {
    check(
        "
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Join {
            /// One.
            Running,
            Fresh { since: u64 },
            Both(u8, u8),
        }
        pub struct Shard(u32, pub u8);
        pub trait Cache<K>: Send {
            type Lease;
            fn get(&self, key: &K) -> Self::Lease;
            fn clear(&self) { self.wipe() }
        }
        pub const LIMIT: usize = { 3 };
        pub type Leg = Vec<u8>;
        pub use crate::{a::B, c};
        pub use self::a::B;
        trait Private { fn quiet(&self); }
        ",
        &[
            "#[derive(Clone, Debug)] #[non_exhaustive] pub enum Join",
            "pub const LIMIT: usize",
            "pub enum Join: Both(u8, u8)",
            "pub enum Join: Fresh { since: u64 }",
            "pub enum Join: Running",
            "pub struct Shard(_, pub u8)",
            "pub trait Cache<K>: Send",
            "pub trait Cache<K>: Send: fn clear(&self)",
            "pub trait Cache<K>: Send: fn get(&self, key: &K) -> Self::Lease",
            "pub trait Cache<K>: Send: type Lease",
            "pub type Leg = Vec<u8>",
            "pub use crate::{a::B, c}",
        ],
    );
}

#[test]
fn trait_impls_count_for_public_types_only() {
    check(
        "
        pub struct Open;
        struct Shut;
        impl Drop for Open { fn drop(&mut self) {} }
        impl fmt::Debug for Shut { fn fmt(&self) {} }
        impl<T> From<T> for Open where T: Copy { fn from(_: T) -> Self { Self } }
        mod inner { pub fn seen() {} }
        #[cfg(test)]
        mod tests { pub fn unseen() {} }
        ",
        &[
            "impl Drop for Open",
            "impl<T> From<T> for Open where T: Copy",
            "pub fn seen()",
            "pub struct Open",
        ],
    );
}
