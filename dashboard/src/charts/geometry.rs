//! From numbers to SVG paths in a box of 100 × 100, which the view stretches to its room. Pure.

/// Side of the box.
pub const SIDE: f64 = 100.0;

/// The least of 1, 2, 5 × 10ⁿ that is not below `value`: a scale's end that people can read.
pub fn nice_ceiling(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    for factor in [1.0, 2.0, 5.0] {
        if value <= factor * power * (1.0 + 1e-9) {
            return factor * power;
        }
    }
    10.0 * power
}

/// Of `count` equal steps, where the `index`th is drawn.
pub fn x_of(index: usize, count: usize) -> f64 {
    if count < 2 { 0.0 } else { index as f64 * SIDE / (count - 1) as f64 }
}

/// Which step is nearest to a place that is `fraction` (0 to 1) of the way.
pub fn index_at(fraction: f64, count: usize) -> usize {
    let last = count.saturating_sub(1);
    ((fraction.clamp(0.0, 1.0) * last as f64).round() as usize).min(last)
}

fn y_of(value: f64, max: f64) -> f64 {
    SIDE - (value / max).clamp(0.0, 1.0) * SIDE
}

/// A line through the values that are there; gaps stay gaps, and a lonely value becomes a dot.
pub fn line(values: &[Option<f64>], max: f64) -> String {
    let mut path = String::new();
    let mut last: Option<usize> = None;
    for (i, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let (x, y) = (x_of(i, values.len()), y_of(*value, max));
        let joined = last.is_some_and(|l| l + 1 == i);
        let alone = !joined && values.get(i + 1).copied().flatten().is_none();
        path += &format!("{}{x:.1} {y:.1}", if joined { 'L' } else { 'M' });
        if alone {
            path += "h.5";
        }
        last = Some(i);
    }
    path
}

/// The area between two curves, of which the lower may be the axis (zeros).
pub fn area(lower: &[f64], upper: &[f64], max: f64) -> String {
    let count = upper.len();
    if count == 0 {
        return String::new();
    }
    let mut path = String::new();
    for (i, value) in upper.iter().enumerate() {
        path += &format!("{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, x_of(i, count), y_of(*value, max));
    }
    for i in (0..count).rev() {
        let value = lower.get(i).copied().unwrap_or(0.0);
        path += &format!("L{:.1} {:.1}", x_of(i, count), y_of(value, max));
    }
    path.push('Z');
    path
}

/// A sparkline in a box of `width` × `height`: its own scale, a little air above and below.
pub fn spark(values: &[f32], width: f64, height: f64) -> String {
    let max = values.iter().copied().fold(0.0f32, f32::max);
    if max <= 0.0 || values.len() < 2 {
        return String::new();
    }
    let mut path = String::new();
    for (i, value) in values.iter().enumerate() {
        let x = i as f64 * width / (values.len() - 1) as f64;
        let y = height - 1.5 - f64::from(value / max) * (height - 3.0);
        path += &format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_readable_numbers() {
        assert_eq!(
            [0.0, 0.7, 1.0, 1.1, 3.0, 24.0, 51.0, f64::NAN].map(nice_ceiling),
            [1.0, 1.0, 1.0, 2.0, 5.0, 50.0, 100.0, 1.0]
        );
    }

    #[test]
    fn gaps_stay_gaps() {
        assert_eq!(
            line(&[Some(1.0), Some(0.0), None, Some(1.0), None], 1.0),
            "M0.0 0.0L25.0 100.0M75.0 0.0h.5"
        );
        assert_eq!(line(&[], 1.0), "");
    }

    #[test]
    fn an_area_closes_along_its_lower_curve() {
        assert_eq!(area(&[0.0, 0.0], &[1.0, 2.0], 2.0), "M0.0 50.0L100.0 0.0L100.0 100.0L0.0 100.0Z");
    }

    #[test]
    fn a_sparkline_needs_something_to_show() {
        assert_eq!(spark(&[0.0, 0.0], 10.0, 10.0), "");
        assert_eq!(spark(&[0.0, 2.0], 10.0, 10.0), "M0.0 8.5L10.0 1.5");
    }

    #[test]
    fn the_pointer_finds_the_nearest_step() {
        assert_eq!([-1.0, 0.0, 0.49, 0.51, 2.0].map(|f| index_at(f, 3)), [0, 0, 1, 1, 2]);
        assert_eq!(index_at(0.5, 0), 0);
    }
}
