//! The steps of a lease, each one script: what Redis does of it, it does at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Script, ScriptInvocation};
use sortie::{Fill, Position, Tag};

use crate::link::{Away, Link};
use crate::names::{Names, Place};
use crate::position;
use crate::settings::{Ages, Settings, millis};

pub(crate) struct Steps {
    pub(crate) link: Link,
    pub(crate) names: Names,
    pub(crate) settings: Settings,
    scripts: Scripts,
}

/// Names one lease among all that were ever handed out, in all processes.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(crate) struct Token(Arc<str>);

#[derive(Debug)]
pub(crate) enum Got {
    Found(Found),
    Miss,
    /// Somebody else has the lease: its token, and whether a sweep came after it.
    Pending(Token, bool),
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) value: Vec<u8>,
    pub(crate) as_of: Option<Position>,
    pub(crate) age: Duration,
    pub(crate) fresh_for: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Hit,
    /// Past its soft age, and somebody else refreshes it.
    Stale,
    /// Past its soft age: with the lease to refresh it.
    Refresh,
    /// Soon past it: with the lease too.
    Early,
}

/// What is stored with a value.
#[derive(Clone, Copy)]
pub(crate) struct Meta<'m> {
    pub(crate) as_of: Option<&'m Position>,
    pub(crate) ages: Ages,
    pub(crate) tags: &'m [Tag],
}

pub(crate) type Last = (Vec<u8>, Option<Position>, Duration);

type Row = (String, Option<Vec<u8>>, Option<String>, Option<i64>, Option<i64>, i64, Option<String>);

struct Scripts {
    get: Script,
    fill: Script,
    release: Script,
    renew: Script,
    peek: Script,
    invalidate: Script,
    expire: Script,
    last: Script,
    sweep: Script,
}

impl Steps {
    pub(crate) fn new(link: Link, names: Names, settings: Settings) -> Self {
        Self { link, names, settings, scripts: Scripts::new() }
    }

    /// Looks up; a miss, and a value that is to be refreshed, come with the lease named `token`.
    pub(crate) async fn get(&self, place: &Place, token: &Token) -> Result<Got, Away> {
        let mut step = self.on(&self.scripts.get, place);
        step.key(self.names.bucket(place.bucket));
        step.arg(token.text()).arg(millis(self.settings.lease)).arg(self.settings.early_by());
        let row: Row = self.link.run(&step).await?;
        let (what, value, as_of, age, fresh_for, _usable_for, other) = row;
        let kind = match what.as_str() {
            "miss" => return Ok(Got::Miss),
            "pending" => {
                let holder = Token(other.ok_or(Away)?.into());
                return Ok(Got::Pending(holder, age == Some(1)));
            }
            "hit" => Kind::Hit,
            "stale" => Kind::Stale,
            "early" => Kind::Early,
            _ => Kind::Refresh,
        };
        Ok(Got::Found(Found {
            kind,
            value: value.ok_or(Away)?,
            as_of: as_of.as_deref().and_then(position::decode),
            age: span(age),
            fresh_for: span(fresh_for),
        }))
    }

    pub(crate) async fn fill(
        &self,
        place: &Place,
        token: &Token,
        value: &[u8],
        meta: Meta<'_>,
    ) -> Result<Fill, Away> {
        let Meta { as_of, ages, tags } = meta;
        let mut step = self.on(&self.scripts.fill, place);
        step.key(self.names.bucket(place.bucket));
        step.arg(token.text()).arg(&*self.names.channel).arg(&*place.key);
        step.arg(value).arg(position::encode(as_of));
        step.arg(ages.fresh).arg(ages.usable).arg(ages.kept).arg(numbers(tags));
        let answer: String = self.link.run(&step).await?;
        Ok(match answer.as_str() {
            "stored" => Fill::Stored,
            "behind" => Fill::Behind,
            "cooling" => Fill::Cooling,
            _ => Fill::Revoked,
        })
    }

    /// The value that was stored last, however old it is, its position and its age.
    pub(crate) async fn last(&self, place: &Place) -> Result<Option<Last>, Away> {
        let mut step = self.on(&self.scripts.last, place);
        step.key(self.names.bucket(place.bucket)).arg(Token::new().text());
        let (value, as_of, age): (Option<Vec<u8>>, Option<String>, i64) =
            self.link.run(&step).await?;
        let as_of = as_of.as_deref().and_then(position::decode);
        Ok(value.map(|value| (value, as_of, span(Some(age)))))
    }

    pub(crate) async fn expire(&self, place: &Place) -> Result<(), Away> {
        let mut step = self.on(&self.scripts.expire, place);
        step.arg(&*self.names.channel).arg(&*place.key);
        self.link.run::<i64>(&step).await.map(drop)
    }

    pub(crate) async fn release(&self, place: &Place, token: &Token) -> Result<(), Away> {
        let mut step = self.on(&self.scripts.release, place);
        step.arg(token.text()).arg(&*self.names.channel).arg(&*place.key);
        self.link.run::<i64>(&step).await.map(drop)
    }

    /// Says whether the lease is still held.
    pub(crate) async fn renew(&self, place: &Place, token: &Token) -> Result<bool, Away> {
        let mut step = self.on(&self.scripts.renew, place);
        step.arg(token.text()).arg(millis(self.settings.lease));
        self.link.run(&step).await
    }

    /// Says whether somebody's lease is still held.
    pub(crate) async fn peek(&self, place: &Place, token: &Token) -> Result<bool, Away> {
        let mut step = self.on(&self.scripts.peek, place);
        step.arg(token.text());
        self.link.run(&step).await
    }

    pub(crate) async fn invalidate(
        &self,
        place: &Place,
        position: Option<&Position>,
    ) -> Result<(), Away> {
        let Settings { cooling, floor_ttl, .. } = &self.settings;
        let mut step = self.on(&self.scripts.invalidate, place);
        step.arg(&*self.names.channel).arg(&*place.key);
        step.arg(position::encode(position)).arg(millis(*cooling)).arg(millis(*floor_ttl));
        self.link.run::<i64>(&step).await.map(drop)
    }

    /// Outdates what has a tag in a bucket, or everything there.
    pub(crate) async fn sweep(
        &self,
        bucket: u8,
        tag: Option<Tag>,
        position: Option<&Position>,
    ) -> Result<(), Away> {
        let mut step = self.scripts.sweep.prepare_invoke();
        step.key(self.names.bucket(bucket));
        step.arg(Token::new().text()).arg(&*self.names.channel).arg(bucket);
        step.arg(position::encode(position)).arg(millis(self.settings.cooling));
        step.arg(numbers(tag.as_slice()));
        self.link.run::<i64>(&step).await.map(drop)
    }

    fn on<'s>(&self, script: &'s Script, place: &Place) -> ScriptInvocation<'s> {
        let mut step = script.prepare_invoke();
        step.key(self.names.entry(place));
        step
    }
}

/// A clock that was set back gives negative ones.
fn span(ms: Option<i64>) -> Duration {
    Duration::from_millis(ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0))
}

/// Tags as the scripts know them: numbers that many may share.
fn numbers(tags: &[Tag]) -> String {
    let number = |tag: &Tag| (tag.number() >> 52).to_string();
    tags.iter().map(number).collect::<Vec<_>>().join(",")
}

impl Scripts {
    fn new() -> Self {
        let script =
            |text: &str| Script::new(&format!("{}\n{text}", include_str!("lua/prelude.lua")));
        Self {
            get: script(include_str!("lua/get.lua")),
            fill: script(include_str!("lua/fill.lua")),
            release: script(include_str!("lua/release.lua")),
            renew: script(include_str!("lua/renew.lua")),
            peek: script(include_str!("lua/peek.lua")),
            invalidate: script(include_str!("lua/invalidate.lua")),
            expire: script(include_str!("lua/expire.lua")),
            last: script(include_str!("lua/last.lua")),
            sweep: script(include_str!("lua/sweep.lua")),
        }
    }
}

impl Token {
    pub(crate) fn new() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)).into())
    }

    fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
