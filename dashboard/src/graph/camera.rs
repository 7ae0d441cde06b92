//! Which part of the drawing is seen, and how large. Pure geometry; the gestures are `stage`'s work.

/// Screen = world × `scale` + (`x`, `y`), in CSS pixels from the canvas' corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    pub x: f64,
    pub y: f64,
    pub scale: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    pub width: f64,
    pub height: f64,
}

/// In world coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

const SCALE_LEAST: f64 = 0.08;
const SCALE_MOST: f64 = 2.5;
/// Fitting enlarges no further than this: a lonely card must not fill the screen.
const FIT_MOST: f64 = 1.0;
/// At this scale names can just be read.
const READABLE: f64 = 0.54;
/// Room for what floats over the canvas: the tools above, legend and zoom buttons below.
const INSET_TOP: f64 = 64.0;
const INSET_BOTTOM: f64 = 48.0;
const INSET_SIDE: f64 = 16.0;

impl Default for Camera {
    fn default() -> Camera {
        Camera { x: 0.0, y: 0.0, scale: 1.0 }
    }
}

impl Camera {
    /// Shows all of `world` in the middle of the canvas.
    pub fn fit(world: Rect, canvas: Size) -> Camera {
        let room = Size {
            width: (canvas.width - 2.0 * INSET_SIDE).max(1.0),
            height: (canvas.height - INSET_TOP - INSET_BOTTOM).max(1.0),
        };
        let scale = (room.width / world.width.max(1.0)).min(room.height / world.height.max(1.0));
        let scale = scale.clamp(SCALE_LEAST, FIT_MOST);
        Camera {
            x: INSET_SIDE + (room.width - world.width * scale) / 2.0 - world.x * scale,
            y: INSET_TOP + (room.height - world.height * scale) / 2.0 - world.y * scale,
            scale,
        }
    }

    /// The first view: all of `world`, unless that would be too small to read; then its left part, where the traffic begins.
    pub fn start(world: Rect, canvas: Size) -> Camera {
        let all = Camera::fit(world, canvas);
        if all.scale >= READABLE {
            return all;
        }
        let middle = (INSET_TOP + canvas.height - INSET_BOTTOM) / 2.0;
        Camera {
            x: INSET_SIDE - world.x * READABLE,
            y: middle - (world.y + world.height / 2.0) * READABLE,
            scale: READABLE,
        }
    }

    pub fn moved(self, dx: f64, dy: f64) -> Camera {
        Camera { x: self.x + dx, y: self.y + dy, ..self }
    }

    /// What is under (`x`, `y`) on the screen stays there.
    pub fn zoomed(self, factor: f64, x: f64, y: f64) -> Camera {
        let scale = (self.scale * factor).clamp(SCALE_LEAST, SCALE_MOST);
        let real = scale / self.scale;
        Camera { x: x - (x - self.x) * real, y: y - (y - self.y) * real, scale }
    }

    /// Moves as little as possible so that `world` is seen.
    pub fn revealing(self, world: Rect, canvas: Size) -> Camera {
        let shift = |start: f64, length: f64, from: f64, to: f64| {
            if start < from || length > to - from {
                from - start
            } else if start + length > to {
                to - start - length
            } else {
                0.0
            }
        };
        let (left, top) = (world.x * self.scale + self.x, world.y * self.scale + self.y);
        let dx = shift(left, world.width * self.scale, INSET_SIDE, canvas.width - INSET_SIDE);
        let dy = shift(top, world.height * self.scale, INSET_TOP, canvas.height - INSET_BOTTOM);
        self.moved(dx, dy)
    }

    /// Whether all of `world` is on the canvas.
    pub fn shows(self, world: Rect, canvas: Size) -> bool {
        let (left, top) = (world.x * self.scale + self.x, world.y * self.scale + self.y);
        let (right, bottom) = (left + world.width * self.scale, top + world.height * self.scale);
        left >= 0.0 && top >= 0.0 && right <= canvas.width && bottom <= canvas.height
    }

    /// The CSS transform that shows a drawing made for `self` as `to` would.
    pub fn transform_to(self, to: Camera) -> String {
        let scale = to.scale / self.scale;
        format!("translate({:.2}px, {:.2}px) scale({scale:.5})", to.x - self.x * scale, to.y - self.y * scale)
    }

    /// For the URL: the world's point in the middle and the scale, so that it means the same in another window.
    pub fn text(self, canvas: Size) -> String {
        let middle = |length: f64, offset: f64| (length / 2.0 - offset) / self.scale;
        format!("{:.0},{:.0},{:.2}", middle(canvas.width, self.x), middle(canvas.height, self.y), self.scale)
    }

    pub fn parse(text: &str, canvas: Size) -> Option<Camera> {
        let numbers: Vec<f64> = text.split(',').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [x, y, scale] = numbers[..] else { return None };
        if ![x, y, scale].into_iter().all(f64::is_finite) {
            return None;
        }
        let scale = scale.clamp(SCALE_LEAST, SCALE_MOST);
        Some(Camera { x: canvas.width / 2.0 - x * scale, y: canvas.height / 2.0 - y * scale, scale })
    }

    /// The style class for how much can still be read.
    pub fn distance(self) -> &'static str {
        match self.scale {
            s if s < 0.28 => "farthest",
            s if s < 0.55 => "farther",
            s if s < 0.75 => "far",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANVAS: Size = Size { width: 800.0, height: 600.0 };

    #[test]
    fn fitting_shows_everything_and_never_enlarges() {
        let large = Rect { x: -100.0, y: 50.0, width: 4_000.0, height: 900.0 };
        assert!(Camera::fit(large, CANVAS).shows(large, CANVAS));
        let small = Rect { x: 0.0, y: 0.0, width: 148.0, height: 64.0 };
        assert_eq!(Camera::fit(small, CANVAS).scale, 1.0);
    }

    #[test]
    fn the_first_view_can_be_read() {
        let phone = Size { width: 375.0, height: 600.0 };
        let wide = Rect { x: 0.0, y: 0.0, width: 1_000.0, height: 400.0 };
        let start = Camera::start(wide, phone);
        assert_eq!((start.scale, start.x), (READABLE, INSET_SIDE));
        assert_eq!(Camera::start(wide, CANVAS), Camera::fit(wide, CANVAS));
    }

    #[test]
    fn zooming_keeps_the_point_under_the_pointer() {
        let before = Camera { x: 30.0, y: -20.0, scale: 0.8 };
        let after = before.zoomed(1.7, 200.0, 100.0);
        let world = |c: Camera| ((200.0 - c.x) / c.scale, (100.0 - c.y) / c.scale);
        assert!((world(before).0 - world(after).0).abs() < 1e-9);
        assert!((world(before).1 - world(after).1).abs() < 1e-9);
        assert_eq!(before.zoomed(1e9, 0.0, 0.0).scale, SCALE_MOST);
    }

    #[test]
    fn revealing_moves_only_when_it_must() {
        let camera = Camera::default();
        let seen = Rect { x: 300.0, y: 300.0, width: 100.0, height: 60.0 };
        assert_eq!(camera.revealing(seen, CANVAS), camera);
        let right = Rect { x: 900.0, ..seen };
        assert_eq!(camera.revealing(right, CANVAS).x, 800.0 - 16.0 - 1_000.0);
        assert_eq!(camera.revealing(right, CANVAS).y, 0.0);
    }

    #[test]
    fn the_url_brings_the_view_back() {
        let camera = Camera { x: -120.0, y: 40.0, scale: 0.5 };
        assert_eq!(Camera::parse(&camera.text(CANVAS), CANVAS), Some(camera));
        for broken in ["", "1,2", "a,b,c", "1,2,NaN", "1,2,3,4"] {
            assert_eq!(Camera::parse(broken, CANVAS), None, "{broken}");
        }
    }
}
