//! Recognising formats by content: file names and `Content-Type` headers lie too often to be asked.

/// The formats that are decoded, recognised by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// GIF, first frame.
    Gif,
    /// BMP.
    Bmp,
}

impl Format {
    /// Recognises a format by its first bytes.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            Some(Self::Gif)
        } else if is_bmp(bytes) {
            Some(Self::Bmp)
        } else {
            None
        }
    }

    /// `image/jpeg`, …
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Gif => "image/gif",
            Self::Bmp => "image/bmp",
        }
    }

    /// The name people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
        }
    }
}

/// Two letters are too little to tell a bitmap from prose, so the length of the DIB header, one of a few values, must
/// fit too.
fn is_bmp(bytes: &[u8]) -> bool {
    const DIB_HEADER_LENGTHS: [u8; 8] = [12, 16, 40, 52, 56, 64, 108, 124];
    bytes.starts_with(b"BM")
        && matches!(bytes.get(14..18), Some([length, 0, 0, 0]) if DIB_HEADER_LENGTHS.contains(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_image() {
        for text in ["", "BM", "BMW makes cars and motorcycles.", "GIF", "RIFF....AVI ", "\u{89}PNG"] {
            assert_eq!(Format::sniff(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn signatures_are_recognised() {
        assert_eq!(Format::sniff(b"\xff\xd8\xff\xe0"), Some(Format::Jpeg));
        assert_eq!(Format::sniff(b"\x89PNG\r\n\x1a\n"), Some(Format::Png));
        assert_eq!(Format::sniff(b"RIFF\x10\0\0\0WEBPVP8 "), Some(Format::WebP));
        assert_eq!(Format::sniff(b"GIF89a"), Some(Format::Gif));
        assert_eq!(Format::sniff(b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"), Some(Format::Bmp));
    }
}
