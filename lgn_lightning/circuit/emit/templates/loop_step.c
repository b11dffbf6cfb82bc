
/* A step: `runs` of equal gates on slots (result, a, b), or where there are none a kernel, evaluated at all places. Its
   `parts` are trees of `gates` (gate, a, b, register) with `results` (value, slot). An operand or value >= 0 is a slot,
   to which the base of the place is added; one < 0 is register -1 - value. A result is the OR over `window` places. */
typedef struct {
    uint32_t runs, parts, window, chunk, places;
    const int32_t *run, *gates, *part_gates, *part_results, *results, *reads, *writes;
} step;
