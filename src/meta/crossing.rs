//! When a volume's use crosses a share of its limit: the pure rule of the
//! warnings, for one resource.
//!
//! Once per crossing: a level is told again only after use has fallen well
//! below it, so that use that goes up and down around it is told once.

/// The shares that are warned of, in per cent, rising.
pub const LEVELS: [u8; 2] = [80, 95];

/// How far below a level use must fall, in points, before it is told again.
const REARM_POINTS: u64 = 5;

/// How far one resource of one volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Levels that have been told.
    told: usize,
    /// Use from which the next level is crossed.
    above: u64,
    /// Use below which the last level is armed again.
    below: u64,
}

/// The least use that is `percent` of `limit`.
fn share(limit: u64, percent: u64) -> u64 {
    let product = u128::from(limit) * u128::from(percent);
    u64::try_from(product.div_ceil(100)).unwrap_or(u64::MAX)
}

impl Crossing {
    /// At this use of a limit; what is crossed already is not told.
    #[must_use]
    pub fn at(used: u64, limit: Option<u64>) -> Self {
        let told = limit.map_or(0, |limit| {
            LEVELS
                .iter()
                .filter(|&&level| used >= share(limit, level.into()))
                .count()
        });
        Self::with(told, limit)
    }

    fn with(told: usize, limit: Option<u64>) -> Self {
        let Some(limit) = limit else {
            return Self {
                told: 0,
                above: u64::MAX,
                below: 0,
            };
        };
        Self {
            told,
            above: LEVELS
                .get(told)
                .map_or(u64::MAX, |&level| share(limit, level.into())),
            below: told.checked_sub(1).map_or(0, |last| {
                share(limit, u64::from(LEVELS[last]) - REARM_POINTS)
            }),
        }
    }

    /// Use has changed; returns the level that has been crossed, the highest
    /// of several. Two comparisons when there is none.
    pub fn see(&mut self, used: u64, limit: Option<u64>) -> Option<u8> {
        if used < self.above && used >= self.below {
            return None;
        }
        let limit = limit?;
        let before = self.told;
        let mut now = *self;
        while used < now.below {
            now = Self::with(now.told - 1, Some(limit));
        }
        while used >= now.above && now.told < LEVELS.len() {
            now = Self::with(now.told + 1, Some(limit));
        }
        *self = now;
        (now.told > before).then(|| LEVELS[now.told - 1])
    }

    /// The limit is another one from now on: what is crossed by that is told.
    pub fn set_limit(&mut self, used: u64, limit: Option<u64>) -> Option<u8> {
        *self = Self::with(self.told, limit);
        self.see(used, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(uses: &[u64]) -> Vec<Option<u8>> {
        let mut crossing = Crossing::at(0, Some(100));
        uses.iter()
            .map(|&used| crossing.see(used, Some(100)))
            .collect()
    }

    #[test]
    fn each_level_is_told_once() {
        let uses = [10, 79, 80, 81, 94, 95, 100, 100];
        let wanted = [None, None, Some(80), None, None, Some(95), None, None];
        assert_eq!(told(&uses), wanted);
        assert_eq!(told(&[100, 90]), [Some(95), None]);
    }

    #[test]
    fn a_level_is_told_again_when_use_was_five_points_below() {
        assert_eq!(told(&[80, 75, 80]), [Some(80), None, None]);
        assert_eq!(told(&[80, 74, 80]), [Some(80), None, Some(80)]);
        assert_eq!(told(&[95, 90, 95]), [Some(95), None, None]);
        assert_eq!(told(&[95, 89, 95]), [Some(95), None, Some(95)]);
        assert_eq!(told(&[95, 0, 85, 96]), [Some(95), None, Some(80), Some(95)]);
    }

    #[test]
    fn another_limit() {
        let mut crossing = Crossing::at(50, Some(100));
        assert_eq!(crossing.set_limit(50, Some(60)), Some(80));
        assert_eq!(crossing.set_limit(50, Some(50)), Some(95));
        assert_eq!(crossing.set_limit(50, Some(40)), None);
        assert_eq!(crossing.set_limit(50, None), None);
        assert_eq!(crossing.see(u64::MAX, None), None);
        assert_eq!(crossing.set_limit(50, Some(60)), Some(80));
        let mut full = Crossing::at(99, Some(100));
        assert_eq!(full.see(100, Some(100)), None);
        assert_eq!(Crossing::at(0, None).see(0, None), None);
        let mut huge = Crossing::at(0, Some(u64::MAX));
        assert_eq!(huge.see(u64::MAX, Some(u64::MAX)), Some(95));
    }
}
