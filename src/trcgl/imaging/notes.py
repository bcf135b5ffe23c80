"""Notes: what a reader ignored, guessed or corrected in a file, as short codes that reports count."""

NOTES = {
    "window-ignored": "an invalid window (WindowCenter, WindowWidth) was ignored",
    "voi-function-ignored": "an empty or unknown VOILUTFunction was read as LINEAR",
    "voi-lut-ignored": "an invalid item of the VOILUTSequence was ignored",
    "rescale-ignored": "an invalid rescale (RescaleSlope, RescaleIntercept) was ignored",
    "modality-lut-ignored": "an invalid item of the ModalityLUTSequence was ignored",
    "padding-ignored": "an invalid PixelPaddingValue or PixelPaddingRangeLimit was ignored",
    "presentation-ignored": "PresentationLUTShape contradicts PhotometricInterpretation and was ignored",
    "high-bit-ignored": "an impossible HighBit was ignored",
    "aspect-ignored": "an invalid pixel spacing or PixelAspectRatio was ignored",
    "aspect-applied": "pixels that are not square were resampled to squares",
    "orientation-applied": "the picture was turned or mirrored as PatientOrientation or EXIF says",
    "encoding-guessed": "the transfer syntax was not named and was recognized from the data",
    "end-missing": "the mark of the end of the compressed image was missing",
    "comment-ignored": "text or a color profile of a PNG file was damaged or too large and was ignored",
    "gray-from-color": "the picture was stored in color with equal channels and was read as gray",
}
"""Code to its meaning."""
