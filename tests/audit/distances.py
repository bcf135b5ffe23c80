"""The ordinary unbiased distance of two sets, which takes all images for independent."""

from trcgl.audit.kernels import polynomial, strips


def ordinary(x, y, kernel=polynomial):
    """Squared maximum mean discrepancy (Gretton et al. 2012, lemma 6); by default the kernel distance (KID)."""

    def total(rows, others):
        return sum(float(values.sum()) for _, values in strips(rows, others, kernel))

    def within(rows):
        same = sum(float(values.diagonal(start).sum()) for start, values in strips(rows, rows, kernel))
        return (total(rows, rows) - same) / (len(rows) * (len(rows) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))
