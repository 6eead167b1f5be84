"""Functions of C that a written model calls: of floats without branches, so that loops over them become vectors."""

from __future__ import annotations

from ..special import ERF_P32, ERF_Q32

__all__ = ["LIBM", "LOOKUP", "helper_text"]

#: Functions of the C library, by operation; of floats with an ``f`` behind the name.
LIBM = {name: name for name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "erf", "floor", "pow")}
LIBM |= {"abs": "fabs", "round": "rint"}

# exp(x) = 2^n exp(r) with |r| <= ln 2 / 2: n by rounding to whole numbers in the lowest bits of a float, ln 2 in two
# parts, and exp(r) = 1 + r + r^2 P(r) with the coefficients of Cephes (expf).
_PARTS_OF_EXP = """
    const float turned = a * 1.44269504f + 12582912.0f;
    const float n = turned - 12582912.0f;
    const float r = a - n * 0.693359375f + n * 2.12194440e-4f;
    const float tail = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r
        + 1.6666665459e-1f) * r + 5.0000001201e-1f;
    uint32_t bits;
    float power;
    memcpy(&bits, &turned, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    memcpy(&power, &bits, sizeof power);"""


def _horner(coefficients: tuple[float, ...]) -> str:
    text = f"{coefficients[0]!r}f"
    for coefficient in coefficients[1:]:
        text = f"({text} * z + {coefficient!r}f)"
    return text.replace("+ -", "- ")


# `T` is the type, `F` the ending of names for it, `#` the model's own name.
_TEXTS = {
    "max": "static inline T #_maxF(T a, T b) { return a > b || a != a ? a : b; }",
    "min": "static inline T #_minF(T a, T b) { return a < b || a != a ? a : b; }",
    "at_least": "static inline T #_at_leastF(T a, T least) { return a < least ? least : a; }",
    "at_most": "static inline T #_at_mostF(T a, T most) { return a > most ? most : a; }",
    "whole": "static inline int64_t #_wholeF(T a)\n{\n    return a > -9e18 && a < 9e18 ? (int64_t)a : 0;\n}",
    "sigmoid": "static inline T #_sigmoidF(T a) { return 1 / (1 + exp(a < -708 ? 708 : -a)); }",
}
_FLOAT_TEXTS = {
    "exp": f"""static inline float #_expf(float a)
{{
    const float given = a;
    a = a < -87.3f ? -87.3f : a > 88.3f ? 88.3f : a;{_PARTS_OF_EXP}
    a = power + power * (r + r * r * tail);
    return given > 88.72f ? INFINITY : a;
}}""",
    "expm1": f"""static inline float #_expm1f(float a)
{{
    const float given = a;
    a = a < -87.3f ? -87.3f : a > 88.3f ? 88.3f : a;{_PARTS_OF_EXP}
    a = power * (r + r * r * tail) + (power - 1);
    return given > 88.72f ? INFINITY : a;
}}""",
    "tanh": """static inline float #_tanhf(float a)
{
    const float e = #_expm1f(2 * (a < -9 ? -9 : a > 9 ? 9 : a));
    return e / (e + 2);
}""",
    "sigmoid": "static inline float #_sigmoidf(float a) { return 1 / (1 + #_expf(a < -87 ? 87 : -a)); }",
    "erf": f"""static inline float #_erff(float a)
{{
    float z;
    a = a < -4 ? -4 : a > 4 ? 4 : a;
    z = a * a;
    return a * {_horner(ERF_P32)}
        / {_horner(ERF_Q32)};
}}""",
}
#: Those that call others.
_CALLS = {"tanh": "expm1", "sigmoid": "exp"}

#: The number of a text among sorted ones, without the spaces around it.
LOOKUP = """static inline int64_t #_lookup(const char *text, const char *const *keys, const int64_t *values, int n,
                                  int64_t otherwise)
{
    size_t length;
    int low = 0, high = n - 1;
    if (text == NULL)
        text = "";
    while (*text == ' ' || (*text >= '\\t' && *text <= '\\r'))
        text++;
    for (length = strlen(text); length > 0; length--)
        if (text[length - 1] != ' ' && !(text[length - 1] >= '\\t' && text[length - 1] <= '\\r'))
            break;
    while (low <= high) {
        const int middle = (low + high) / 2;
        const int order = strncmp(text, keys[middle], length);
        if (order == 0 && keys[middle][length] == '\\0')
            return values[middle];
        if (order > 0)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return otherwise;
}"""


def helper_text(name: str, dtype: str, prefix: str) -> dict[str, str] | None:
    """Return the texts of a function and of what it calls, by their names; None where it is left to the C library.

    Examples
    --------
    >>> list(helper_text("tanh", "float32", "m")), helper_text("tanh", "float64", "m")
    (['m_expm1f', 'm_tanhf'], None)
    """
    short = dtype == "float32"
    text = _FLOAT_TEXTS.get(name, _TEXTS.get(name)) if short else _TEXTS.get(name)
    if text is None:
        return None
    kind, ending = {"float32": ("float", "f"), "float64": ("double", "")}.get(dtype, ("int64_t", "i"))
    text = text.replace("T ", f"{kind} ").replace("F(", f"{ending}(").replace("#", prefix)
    before = helper_text(_CALLS[name], dtype, prefix) if short and name in _CALLS else None
    return {**(before or {}), f"{prefix}_{name}{ending}": text}
