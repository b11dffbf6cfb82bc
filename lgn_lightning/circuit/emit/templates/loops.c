
/* A kernel, `chunk` results of a part at once. A register holds a value for each of their places. */
static void run_kernel(const step *k, vec *s)
{
    const size_t length = (size_t)k->chunk * k->window;
    for (uint32_t part = 0; part < k->parts; part++)
        for (uint32_t start = 0; start < k->places; start += k->chunk) {
            const size_t count = k->places - start < k->chunk ? k->places - start : k->chunk;
            const int32_t *const reads = k->reads + (size_t)start * k->window;
            for (int32_t g = k->part_gates[part]; g < k->part_gates[part + 1]; g++) {
                const int32_t *const gate = k->gates + 4 * (size_t)g;
                kernel_gate(gate[0], VALUE(gate[1]), PLACES(gate[1]), VALUE(gate[2]), PLACES(gate[2]),
                            s + FIRST_REGISTER + (size_t)gate[3] * length, count * k->window);
            }
            for (int32_t r = k->part_results[part]; r < k->part_results[part + 1]; r++) {
                const int32_t *const result = k->results + 2 * (size_t)r;
                const vec *const value = VALUE(result[0]);
                const int32_t *const places = PLACES(result[0]);
                vec *const out = s + result[1];
                for (size_t i = 0; i < count; i++) {
                    vec sum = value[places[i]];
                    for (size_t j = 1; j < k->window; j++)
                        sum = (vec)(sum | value[places[j * count + i]]);
                    out[k->writes[start + i]] = sum;
                }
            }
        }
}

static void run_loops(vec *s)
{
    for (size_t i = 0; i < sizeof STEPS / sizeof STEPS[0]; i++) {
        const int32_t *gates = STEPS[i].gates;
        if (STEPS[i].runs == 0)
            run_kernel(&STEPS[i], s);
        for (uint32_t r = 0; r < STEPS[i].runs; r++) {
            plain_gates(s, STEPS[i].run[2 * r], gates, (size_t)STEPS[i].run[2 * r + 1]);
            gates += 3 * (size_t)STEPS[i].run[2 * r + 1];
        }
    }
}
