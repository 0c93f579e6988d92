//! Positions as text that the scripts can compare: fixed width, so that their order is the
//! numbers' order.

use sortie::{Position, ShardId, WalPoint};

/// `shard:system:timeline:lsn;` of each shard, in hexadecimal; nothing for an unknown position.
pub(crate) fn encode(position: Option<&Position>) -> String {
    let point = |(shard, WalPoint { system, timeline, lsn }): (ShardId, _)| {
        format!("{:08x}:{system:016x}:{timeline:08x}:{lsn:016x};", shard.index())
    };
    position.map_or_else(String::new, |position| position.points().map(point).collect())
}

pub(crate) fn decode(text: &str) -> Option<Position> {
    let points: Option<Vec<_>> = text.split_terminator(';').map(point).collect();
    points.filter(|points| !points.is_empty()).map(Position::of)
}

fn point(text: &str) -> Option<(ShardId, WalPoint)> {
    let mut parts = text.split(':');
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    let shard = u32::try_from(number()?).ok()?;
    let (system, timeline, lsn) = (number()?, u32::try_from(number()?).ok()?, number()?);
    Some((ShardId::new(shard), WalPoint { system, timeline, lsn }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_was() {
        let point = |lsn| WalPoint { system: u64::MAX, timeline: 3, lsn };
        let position = Position::of([(ShardId::new(0), point(7)), (ShardId::new(9), point(1))]);
        let text = encode(Some(&position));
        assert_eq!(decode(&text), Some(position), "{text}");
        assert_eq!((encode(None).as_str(), decode("")), ("", None));
        assert_eq!(decode("nonsense"), None);
    }
}
