//! One column's heights: everything as near to where it wants to be as order and distance allow, or as there is room.

/// Something in a column. Items keep their order; between two of them lies at least half of each one's `gap`.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Where its centre would like to be.
    pub wanted: f64,
    pub weight: f64,
    pub height: f64,
    pub gap: f64,
}

/// The centres that are nearest to the wanted ones in weighted least squares. With each slot's least distance from the
/// first taken off, this is isotonic regression: neighbours that would cross share their mean.
pub fn centres(slots: &[Slot]) -> Vec<f64> {
    let mut offsets = Vec::with_capacity(slots.len());
    let mut offset = 0.0;
    for (i, slot) in slots.iter().enumerate() {
        if i > 0 {
            let above = slots[i - 1];
            offset += (above.height + slot.height + above.gap + slot.gap) / 2.0;
        }
        offsets.push(offset);
    }
    // Blocks of slots that stand at their least distance: (mean, weight, length).
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (slot, offset) in slots.iter().zip(&offsets) {
        let mut block = (slot.wanted - offset, slot.weight, 1);
        while let Some(above) = blocks.pop_if(|above| above.0 > block.0) {
            let weight = above.1 + block.1;
            block = ((above.0 * above.1 + block.0 * block.1) / weight, weight, above.2 + block.2);
        }
        blocks.push(block);
    }
    let starts = blocks.into_iter().flat_map(|(mean, _, length)| std::iter::repeat_n(mean, length));
    starts.zip(offsets).map(|(start, offset)| start + offset).collect()
}

/// The centre nearest to the wanted one at which a slot keeps its distance from those that stand already, at their `wanted`.
pub fn nearest_room(standing: &[Slot], slot: Slot) -> f64 {
    let apart = |other: &Slot| (other.height + slot.height + other.gap + slot.gap) / 2.0;
    // Rounding must not make of two that touch two that overlap.
    let is_free = |at: f64| standing.iter().all(|other| (other.wanted - at).abs() >= apart(other) - 1e-6);
    let beside = standing.iter().flat_map(|other| [other.wanted - apart(other), other.wanted + apart(other)]);
    let free = std::iter::once(slot.wanted).chain(beside).filter(|at| is_free(*at));
    // Above the first and below the last there is always room.
    free.min_by(|a, b| (a - slot.wanted).abs().total_cmp(&(b - slot.wanted).abs())).unwrap_or(slot.wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(wanted: f64) -> Slot {
        Slot { wanted, weight: 1.0, height: 10.0, gap: 2.0 }
    }

    #[test]
    fn leaves_alone_what_fits_and_shares_what_does_not() {
        assert_eq!(centres(&[slot(0.0), slot(50.0)]), [0.0, 50.0]);
        assert_eq!(centres(&[slot(20.0), slot(20.0)]), [14.0, 26.0]);
        assert_eq!(centres(&[slot(30.0), slot(10.0), slot(20.0)]), [8.0, 20.0, 32.0]);
    }

    #[test]
    fn what_comes_later_takes_the_nearest_gap() {
        let standing = [slot(0.0), slot(24.0), slot(50.0)];
        assert_eq!(nearest_room(&standing, slot(100.0)), 100.0);
        assert_eq!(nearest_room(&standing, slot(10.0)), 12.0);
        assert_eq!(nearest_room(&standing, slot(30.0)), 37.0 - 1.0);
        assert_eq!(nearest_room(&[slot(0.0)], slot(0.0)), -12.0);
    }
}
