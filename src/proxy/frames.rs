//! Where the frames of a WebSocket end (RFC 6455 section 5.2), on the way to the browser: a frame of our own may stand
//! between two of them, and nowhere else.

/// Follows the bytes that go to the browser from the head of a 101 on, in whatever pieces they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frames {
    state: State,
    /// The upstream has said goodbye itself: after that nothing may follow.
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the heads that come before the frames: interim ones, and that of the 101.
    Head {
        /// How many bytes of this head have been seen, at most as many as the status line's code needs.
        seen: u8,
        /// The status code as far as it was seen.
        status: u16,
        /// Whether the line that is being read has no byte yet.
        empty_line: bool,
    },
    /// In a frame's header, `seen` bytes into it. None: between two frames.
    Header {
        seen: u8,
        first: u8,
        /// How many bytes the header has, once its second byte tells.
        size: u8,
        length: u64,
    },
    /// In a frame's payload, of which so many bytes are to come.
    Payload(u64),
    /// What came is no WebSocket: there are no boundaries any more.
    Lost,
}

/// `HTTP/1.1 ` comes before the status code.
const STATUS_AT: u8 = 9;
const STATUS_END: u8 = STATUS_AT + 3;
const SWITCHING: u16 = 101;
/// The opcode of a Close frame.
const CLOSE: u8 = 0x8;
/// The bytes before the length: FIN and opcode, MASK and the short length.
const SHORT: u8 = 2;

const BETWEEN: State = State::Header { seen: 0, first: 0, size: SHORT, length: 0 };
const AT_A_HEAD: State = State::Head { seen: 0, status: 0, empty_line: false };

impl Frames {
    /// At the start of an answer's head.
    pub(super) const fn new() -> Self {
        Self { state: AT_A_HEAD, closed: false }
    }

    /// Whether no frame is open, so that one of our own may follow.
    pub(super) fn between(&self) -> bool {
        self.state == BETWEEN
    }

    /// Whether a Close frame may be sent now.
    pub(super) fn may_close(&self) -> bool {
        self.between() && !self.closed
    }

    /// How many of `bytes`, which come next, belong to what is open now. All of them if it does not end within.
    pub(super) fn open_part(&self, bytes: &[u8]) -> usize {
        let mut ahead = *self;
        let mut taken = 0;
        while !ahead.between() && taken < bytes.len() {
            taken += ahead.step(bytes.get(taken..).unwrap_or_default());
        }
        taken
    }

    /// These bytes have gone.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Takes at least one byte, and never more than to the end of what is open.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let Some(byte) = bytes.first().copied() else { return 0 };
        match self.state {
            State::Head { seen, status, empty_line } => {
                self.state = in_head(byte, seen, status, empty_line);
                1
            }
            State::Header { seen, first, size, length } => {
                self.state = self.in_header(byte, seen, first, size, length);
                1
            }
            State::Payload(left) => {
                let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.state = payload(left - taken as u64);
                taken
            }
            State::Lost => bytes.len(),
        }
    }

    fn in_header(&mut self, byte: u8, seen: u8, first: u8, size: u8, length: u64) -> State {
        match seen {
            0 => return State::Header { seen: 1, first: byte, size, length },
            1 => {
                self.closed |= first & 0x0f == CLOSE;
                let (more, length) = match byte & 0x7f {
                    126 => (2, 0),
                    127 => (8, 0),
                    short => (0, u64::from(short)),
                };
                // Servers do not mask; one that does breaks the rule, but its frames end somewhere all the same.
                let size = SHORT + more + if byte & 0x80 == 0 { 0 } else { 4 };
                return header(2, first, size, length);
            }
            _ => {}
        }
        let masked = size == SHORT + 4 || size == SHORT + 6 || size == SHORT + 12;
        let in_mask = masked && seen >= size - 4;
        if in_mask {
            return header(seen + 1, first, size, length);
        }
        // The most significant bit of a length must be 0: what has it is no frame.
        if length > u64::MAX >> 9 {
            return State::Lost;
        }
        header(seen + 1, first, size, (length << 8) | u64::from(byte))
    }
}

/// `seen` bytes into a header, or at its end.
const fn header(seen: u8, first: u8, size: u8, length: u64) -> State {
    if seen < size { State::Header { seen, first, size, length } } else { payload(length) }
}

const fn payload(left: u64) -> State {
    if left == 0 { BETWEEN } else { State::Payload(left) }
}

/// After `byte` of a head. It ends with the first empty line; interim heads are followed by another.
fn in_head(byte: u8, seen: u8, status: u16, empty_line: bool) -> State {
    let status = match (seen, byte) {
        (STATUS_AT..STATUS_END, b'0'..=b'9') => status * 10 + u16::from(byte - b'0'),
        (STATUS_AT..STATUS_END, _) => return State::Lost,
        _ => status,
    };
    let seen = seen.saturating_add(1).min(STATUS_END);
    match (byte, empty_line) {
        (b'\n', true) if status == SWITCHING => BETWEEN,
        (b'\n', true) if status / 100 == 1 => AT_A_HEAD,
        (b'\n', true) => State::Lost,
        (b'\n', false) => State::Head { seen, status, empty_line: true },
        (b'\r', _) => State::Head { seen, status, empty_line },
        _ => State::Head { seen, status, empty_line: false },
    }
}

/// A Close frame (RFC 6455 section 5.5.1) with `code` and as much of `reason` as a control frame holds.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    const MOST: usize = 125 - size_of::<u16>();
    let end = (0..=reason.len().min(MOST)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    let reason = reason.get(..end).unwrap_or_default().as_bytes();
    let length = u8::try_from(size_of::<u16>() + reason.len()).unwrap_or(0);
    [&[0x80 | CLOSE, length], &code.to_be_bytes()[..], reason].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(mask | u8::try_from(short).unwrap()),
            medium @ 126..65536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                frame.push(mask | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(payload);
        frame
    }

    fn after(bytes: &[u8]) -> Frames {
        let mut frames = Frames::new();
        frames.advance(bytes);
        frames
    }

    /// The places in `bytes` where no frame is open.
    fn boundaries(bytes: &[u8]) -> Vec<usize> {
        (0..=bytes.len()).filter(|end| after(&bytes[..*end]).between()).collect()
    }

    #[test]
    fn every_form_of_length_is_understood() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for masked in [false, true] {
                let bytes = [HEAD, &frame(0x82, masked, &vec![b'\n'; length]), &frame(0x81, masked, b"x")].concat();
                let second = bytes.len() - frame(0x81, masked, b"x").len();
                let mut seen = Frames::new();
                seen.advance(&bytes[..HEAD.len()]);
                assert!(seen.may_close());
                seen.advance(&bytes[HEAD.len()..second - 1]);
                assert!(!seen.between(), "{length}");
                assert_eq!(seen.open_part(&bytes[second - 1..]), 1, "{length}");
                seen.advance(&bytes[second - 1..second]);
                assert!(seen.may_close(), "{length}");
                seen.advance(&bytes[second..]);
                assert!(seen.may_close());
            }
        }
    }

    #[test]
    fn control_frames_between_fragments_are_frames_too() {
        let parts = [HEAD.to_vec(), frame(0x01, false, b"frag"), frame(0x89, false, b""), frame(0x80, false, b"ment")];
        let bytes = parts.concat();
        let ends: Vec<usize> = parts
            .iter()
            .scan(0, |end, part| {
                *end += part.len();
                Some(*end)
            })
            .collect();
        assert_eq!(boundaries(&bytes), ends);
    }

    #[test]
    fn interim_heads_come_before_that_of_the_switch() {
        let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let bytes = [&early[..], HEAD, &frame(0x81, false, b"a")].concat();
        let first = early.len() + HEAD.len();
        assert_eq!(boundaries(&bytes), [first, bytes.len()]);
    }

    #[test]
    fn after_the_upstreams_own_close_nothing_may_follow() {
        let frames = after(&[HEAD, &frame(0x88, false, b"\x03\xe8bye")].concat());
        assert!(frames.between() && !frames.may_close());
    }

    #[test]
    fn what_is_no_web_socket_has_no_boundaries() {
        let too_long = [HEAD, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]].concat();
        for bytes in
            [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"HTTP/1.1 1x1 A\r\n\r\n", b"SSH-2.0-a-server\r\n\r\n", &too_long]
        {
            let frames = after(bytes);
            assert_eq!(frames.state, State::Lost, "{bytes:?}");
            assert_eq!(frames.open_part(b"more"), 4);
        }
        // The longest that is allowed is merely never over.
        let longest = [HEAD, &[0x82, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255]].concat();
        assert_eq!(after(&longest).state, State::Payload(u64::MAX >> 1));
    }

    #[test]
    fn a_close_frame_says_why() {
        assert_eq!(close(4401, "logout"), [&[0x88, 8, 0x11, 0x31][..], b"logout"].concat());
        assert_eq!(close(1000, ""), [0x88, 2, 0x03, 0xe8]);
        let long = close(4401, &"ä".repeat(100));
        assert_eq!((long.len(), long[1]), (2 + 124, 124), "a control frame holds 125 bytes, and no half character");
        assert!(after(&[HEAD, &long].concat()).between());
    }

    fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let length = prop_oneof![0_usize..200, Just(125), Just(126), 65_500_usize..65_600];
        let one = (any::<u8>(), any::<bool>(), length, any::<u8>());
        let one = one.prop_map(|(first, masked, length, fill)| frame(first, masked, &vec![fill; length]));
        prop::collection::vec(one, 0..6)
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_boundaries(
            frames in frames(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut ends = vec![HEAD.len()];
            let mut bytes = HEAD.to_vec();
            for frame in &frames {
                bytes.extend(frame);
                ends.push(bytes.len());
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let (mut seen, mut at) = (Frames::new(), 0);
            for cut in cuts {
                seen.advance(&bytes[at..cut]);
                at = cut;
                prop_assert_eq!(seen.between(), ends.contains(&at));
                // From here to the next boundary, and no further.
                let next = ends.iter().copied().find(|end| *end >= at).unwrap_or(at);
                prop_assert_eq!(seen.open_part(&bytes[at..]), next - at);
            }
        }

        #[test]
        fn no_bytes_at_all_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
            let mut frames = after(if head { HEAD } else { b"" });
            for chunk in bytes.chunks(7) {
                let open = frames.open_part(chunk);
                prop_assert!(open <= chunk.len());
                frames.advance(chunk);
            }
        }
    }
}
