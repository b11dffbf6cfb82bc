
/* Loads eight bytes, the first into the lowest, on any byte order; `count` < 8 fills up with zeros. */
static uint64_t load_bytes(const uint8_t *p, size_t count)
{
    uint64_t x = 0;
    if (count >= 8)
        return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
               (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
    for (size_t i = 0; i < count; i++)
        x |= (uint64_t)p[i] << (8 * i);
    return x;
}

/* Transposes an 8x8 bit matrix: bit j of byte i becomes bit i of byte j (Hacker's Delight, 7-3). */
static uint64_t transpose_bits(uint64_t x)
{
    uint64_t t = (x ^ (x >> 7)) & UINT64_C(0x00AA00AA00AA00AA);
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & UINT64_C(0x0000CCCC0000CCCC);
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & UINT64_C(0x00000000F0F0F0F0);
    return x ^ t ^ (t << 28);
}

/* Sets byte i of the result to 1 where byte i of x is not 0. */
static uint64_t bytes_nonzero(uint64_t x)
{
    x |= x >> 4;
    x |= x >> 2;
    x |= x >> 1;
    return x & UINT64_C(0x0101010101010101);
}

#ifdef NUM_THRESHOLDS
/* Sets byte i of the result to 1 where byte i of x is above the level. */
static uint64_t bytes_above(uint64_t x, unsigned level)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t low = (x & 0x7F * ones) + (0x7F - (level & 0x7F)) * ones;
    return ((level & 0x80 ? low & x : low | x) >> 7) & ones;
}
#endif

/* Packs feature columns first .. first+7 of up to WORD_BITS samples into eight words. `level` < 0 means bools. */
static void pack_columns(const uint8_t *x, size_t stride, size_t columns, int level, size_t count, word *out)
{
    word words[8] = {0};
    for (size_t first = 0; first < count; first += 8) {
        uint64_t rows = 0;
        for (size_t i = 0; i < 8 && first + i < count; i++) {
            uint64_t bytes = load_bytes(x + (first + i) * stride, columns);
#ifdef NUM_THRESHOLDS
            bytes = level < 0 ? bytes_nonzero(bytes) : bytes_above(bytes, (unsigned)level);
#else
            (void)level;
            bytes = bytes_nonzero(bytes);
#endif
            rows |= (bytes * UINT64_C(0x0102040810204080)) >> 56 << (8 * i);
        }
        rows = transpose_bits(rows);
        for (size_t i = 0; i < 8; i++)
            words[i] = (word)(words[i] | (word)((word)(rows >> (8 * i) & 0xFF) << first));
    }
    for (size_t i = 0; i < columns && i < 8; i++)
        out[i * LANES] = words[i];
}

/* Packs samples into the input slots; lane l holds samples l*WORD_BITS ... of the block. */
static void pack_block(const uint8_t *x, int kind, size_t count, word *slots)
{
    for (size_t lane = 0; lane < LANES; lane++) {
        const size_t start = lane * WORD_BITS;
        const size_t rest = count <= start ? 0 : count - start < WORD_BITS ? count - start : WORD_BITS;
        if (kind == KIND_BOOLS)
            for (size_t d = 0; d < NUM_INPUTS; d += 8)
                pack_columns(x + start * NUM_INPUTS + d, NUM_INPUTS, NUM_INPUTS - d, -1, rest,
                             slots + d * LANES + lane);
#ifdef NUM_THRESHOLDS
        else
            for (size_t t = 0; t < NUM_THRESHOLDS; t++)
                for (size_t d = 0; d < NUM_PIXELS; d += 8)
                    pack_columns(x + start * NUM_PIXELS + d, NUM_PIXELS, NUM_PIXELS - d, THRESHOLDS[t], rest,
                                 slots + (t * NUM_PIXELS + d) * LANES + lane);
#endif
#ifdef ROWS
        else
            pack_rows((const ROWS *)(const void *)x + start, rest, slots + lane);
#endif
    }
}

#define ADD(sum, carry, x, y)                    \
    do {                                         \
        const vec both_ = (vec)(sum ^ (x));      \
        carry = (vec)((sum & (x)) | (both_ & (y))); \
        sum = (vec)(both_ ^ (y));                \
    } while (0)

/* Counts the ones of a class bit by bit: plane d holds bit d of the count of each sample (carry-save adders). */
static void count_class(const vec *s, const slot_index *outputs, vec *planes)
{
    vec ones = ZERO, twos = ZERO, fours = ZERO, two_a, two_b, four_a, four_b, carry;
    for (size_t d = 0; d < NUM_PLANES; d++)
        planes[d] = ZERO;
    for (size_t i = 0; i + 8 <= GROUP_SIZE; i += 8) {
        const slot_index *o = outputs + i;
        ADD(ones, two_a, s[o[0]], s[o[1]]);
        ADD(ones, two_b, s[o[2]], s[o[3]]);
        ADD(twos, four_a, two_a, two_b);
        ADD(ones, two_a, s[o[4]], s[o[5]]);
        ADD(ones, two_b, s[o[6]], s[o[7]]);
        ADD(twos, four_b, two_a, two_b);
        ADD(fours, carry, four_a, four_b);
        for (size_t d = 3; d < NUM_PLANES; d++) {
            const vec old = planes[d];
            planes[d] = (vec)(old ^ carry);
            carry = (vec)(old & carry);
        }
    }
    planes[0] = ones;
    if (NUM_PLANES > 1)
        planes[NUM_PLANES > 1 ? 1 : 0] = twos;
    if (NUM_PLANES > 2)
        planes[NUM_PLANES > 2 ? 2 : 0] = fours;
    for (size_t i = GROUP_SIZE / 8 * 8; i < GROUP_SIZE; i++) {
        carry = s[outputs[i]];
        for (size_t d = 0; d < NUM_PLANES; d++) {
            const vec old = planes[d];
            planes[d] = (vec)(old ^ carry);
            carry = (vec)(old & carry);
        }
    }
}

/* Counts the ones of a class sample by sample, which is faster for a few of them. */
enum { FEW = 2 };
static void count_few(const vec *s, const slot_index *outputs, size_t samples, int32_t *counts)
{
    for (size_t j = 0; j < samples; j++) {
        const uint64_t bit = (uint64_t)1 << j;
        uint64_t a = 0, b = 0, c = 0, d = 0; /* four sums: an addition need not wait for the one before */
        size_t i = 0;
        for (; i + 4 <= GROUP_SIZE; i += 4) {
            a += ((const word *)(s + outputs[i]))[0] & bit;
            b += ((const word *)(s + outputs[i + 1]))[0] & bit;
            c += ((const word *)(s + outputs[i + 2]))[0] & bit;
            d += ((const word *)(s + outputs[i + 3]))[0] & bit;
        }
        for (; i < GROUP_SIZE; i++)
            a += ((const word *)(s + outputs[i]))[0] & bit;
        counts[j] = (int32_t)((a + b + c + d) >> j);
    }
}

/* Turns the planes into one count a sample. */
static void planes_to_counts(const vec *planes, int32_t *counts)
{
    const word *words = (const word *)planes;
    for (size_t lane = 0; lane < LANES; lane++) {
        int32_t *out = counts + lane * WORD_BITS;
        for (size_t j = 0; j < WORD_BITS; j += 4) {
#if GROUP_SIZE < 65536
            /* Four samples at once, 16 bits each: the product moves bit i of a nibble to bit 16 i. */
            uint64_t sum = 0;
            for (size_t d = 0; d < NUM_PLANES; d++)
                sum += (((uint64_t)(words[d * LANES + lane] >> j & 15) * UINT64_C(0x200040008001)) &
                        UINT64_C(0x0001000100010001)) << d;
            for (size_t i = 0; i < 4; i++)
                out[j + i] = (int32_t)(sum >> (16 * i) & 0xFFFF);
#else
            for (size_t i = 0; i < 4; i++) {
                out[j + i] = 0;
                for (size_t d = 0; d < NUM_PLANES; d++)
                    out[j + i] |= (int32_t)(words[d * LANES + lane] >> (j + i) & 1) << d;
            }
#endif
        }
    }
}

#ifdef ONE_ROW
/* Runs a row; either of `scores` and `results` may be NULL. */
static void classify_one(const ROWS *x, int32_t *scores, result *results)
{
    int32_t counts[NUM_CLASSES];
    one_row(x, counts);
    if (scores != NULL)
        memcpy(scores, counts, sizeof counts);
    if (results != NULL) {
#ifdef DECIDES
        for (size_t c = 0; c < NUM_CLASSES; c++)
            decide(results, c, counts[c]);
#else
        *results = 0;
        for (int32_t c = 1; c < NUM_CLASSES; c++)
            if (counts[c] > counts[*results])
                *results = c;
#endif
    }
}
#endif

/* Runs `count` samples; either of `scores` and `results` may be NULL. Returns 0, or -1 if memory is short. */
static int classify(const void *x, int kind, int32_t *scores, result *results, size_t count)
{
#ifdef ONE_ROW
    if (kind == KIND_ROWS && count <= FEW) {
        for (size_t j = 0; j < count; j++)
            classify_one((const ROWS *)x + j, scores == NULL ? NULL : scores + j * NUM_CLASSES,
                         results == NULL ? NULL : results + j * RESULTS);
        return 0;
    }
#endif
    const size_t row = kind == KIND_PACKED ? 0 : kind == KIND_BOOLS ? (size_t)NUM_INPUTS : (size_t)ROW_BYTES;
    const size_t block = LANES * WORD_BITS;
    int32_t counts[VEC_BYTES * 8], best[VEC_BYTES * 8], arg[VEC_BYTES * 8];
    vec planes[NUM_PLANES];
#if NUM_SLOTS * VEC_BYTES <= LGN_STACK_BYTES
    vec slots[NUM_SLOTS];
#ifdef ZERO_SLOTS
    memset(slots, 0, sizeof slots);
#endif
#else
    /* Slots that nobody writes, the borders of images, hold 0. */
    void *memory = calloc(1, (NUM_SLOTS + 1) * sizeof(vec));
    if (memory == NULL)
        return -1;
    vec *slots = (vec *)(((uintptr_t)memory + sizeof(vec) - 1) / sizeof(vec) * sizeof(vec));
#endif
#ifdef DECIDES
    (void)best;
    (void)arg;
#endif
    for (size_t start = 0; start < count; start += block) {
        const size_t samples = count - start < block ? count - start : block;
        if (kind == KIND_PACKED)
            for (size_t lane = 0; lane < LANES; lane++)
                for (size_t d = 0; d < NUM_INPUTS; d++)
                    ((word *)slots)[d * LANES + lane] =
                        lane * WORD_BITS < samples
                            ? ((const word *)x)[(start / WORD_BITS + lane) * NUM_INPUTS + d]
                            : (word)0;
        else
            pack_block((const uint8_t *)x + start * row, kind, samples, (word *)slots);
        run(slots);
        for (size_t c = 0; c < NUM_CLASSES; c++) {
            if (samples <= FEW) {
                count_few(slots, OUTPUTS + c * GROUP_SIZE, samples, counts);
            } else {
                count_class(slots, OUTPUTS + c * GROUP_SIZE, planes);
                planes_to_counts(planes, counts);
            }
            if (scores != NULL)
                for (size_t j = 0; j < samples; j++)
                    scores[(start + j) * NUM_CLASSES + c] = counts[j];
            if (results != NULL)
                for (size_t j = 0; j < samples; j++)
#ifdef DECIDES
                    decide(results + (start + j) * RESULTS, c, counts[j]);
        }
#else
                    if (c == 0 || counts[j] > best[j]) {
                        best[j] = counts[j];
                        arg[j] = (int32_t)c;
                    }
        }
        if (results != NULL)
            memcpy(results + start, arg, samples * sizeof(result));
#endif
    }
#if NUM_SLOTS * VEC_BYTES > LGN_STACK_BYTES
    free(memory);
#endif
    return 0;
}
