// Engines: they run blocks of 512 samples through a program, on several threads, and count and compare the sums.
#include "engine.h"

#include <algorithm>
#include <string>

#include "row_kernels.h"
#include "threads.h"

using namespace lgn;

void LgnEngine::run(const Job& job, int32_t threads) const {
  on_threads(job.samples, threads, [&](std::atomic<int64_t>& next) { work(job, next); });
}

void LgnEngine::work(const Job& job, std::atomic<int64_t>& next) const {
  auto workspace = take(workspace_bytes());
  const int64_t blocks = (job.samples + kBlock - 1) / kBlock;
  for (int64_t index; (index = next.fetch_add(1)) < blocks;) block(job, index, workspace->data());
  give_back(std::move(workspace));
}

void LgnEngine::block(const Job& job, int64_t index, uint8_t* memory) const {
  const int64_t first = index * kBlock;
  const int samples = static_cast<int>(std::min<int64_t>(kBlock, job.samples - first));
  load(job, first, samples, memory);
  if (loops) loops->run(isa, memory, memory + registers_at());
  run_program(memory);
  if (job.output_bits) store_outputs(job, first, memory);
  if (!job.scores && !job.classes) return;
  if (narrow_counts) {
    count<int16_t>(memory);
    store<int16_t>(job, first, samples, memory);
  } else {
    count<int32_t>(memory);
    store<int32_t>(job, first, samples, memory);
  }
}

void LgnEngine::run_program(uint8_t* memory) const {
  if (kind != kMachineCode) {
    kernels->interpret(grouped, memory);
    return;
  }
  for (const size_t begin : pieces) {
    const auto piece = reinterpret_cast<void (*)(uint8_t*)>(buffer.code() + begin);
    piece(memory);
    if (isa == kAvx2) piece(memory + kSlotBytes / 2);
  }
}

static const RowKernels& row_kernels_of([[maybe_unused]] int32_t isa) {
#if defined(__x86_64__)
  if (isa == kAvx512) return kAvx512RowKernels;
  if (isa == kAvx2) return kAvx2RowKernels;
#endif
  return kGenericRowKernels;
}

void LgnEngine::load(const Job& job, int64_t first, int samples, uint8_t* memory) const {
  if (job.comparisons) {
    row_kernels_of(isa).pack_rows(job.rows + first * job.row, job.row, job.comparisons, job.num_levels, samples,
                                  memory);
    return;
  }
  if (job.rows) {
    kernels->pack(job.rows + first * job.row, job.row, job.levels, job.num_levels, samples,
                  reinterpret_cast<uint64_t*>(memory + scratch_at()), memory);
    return;
  }
  const int64_t word = first / 64, words = std::min<int64_t>(kBlock / 64, job.num_words - word);
  for (int64_t i = 0; i < sample_inputs(); ++i)
    std::memcpy(memory + i * kSlotBytes, job.words + i * job.num_words + word, static_cast<size_t>(words) * 8);
}

template <class T>
void LgnEngine::count(uint8_t* memory) const {
  uint8_t* const planes = memory + planes_at();
  const uint8_t* list[kMaxPlanes];
  for (int64_t c = 0; c < classes; ++c) {
    int num_planes;
    if (kind == kMachineCode) {
      const auto& places = plane_slots[c];
      num_planes = static_cast<int>(places.size());
      for (int d = 0; d < num_planes; ++d) list[d] = memory + size_t(places[d]) * kSlotBytes;
    } else {
      num_planes = kernels->count_ones(grouped.sums[c], memory, planes);
      for (int d = 0; d < num_planes; ++d) list[d] = planes + d * kSlotBytes;
    }
    T* const counts = reinterpret_cast<T*>(memory + counts_at()) + c * kBlock;
    if constexpr (sizeof(T) == 2)
      kernels->read_planes16(list, num_planes, static_cast<T>(offset[c]), counts);
    else
      kernels->read_planes32(list, num_planes, static_cast<T>(offset[c]), counts);
  }
}

template <class T>
void LgnEngine::store(const Job& job, int64_t first, int samples, uint8_t* memory) const {
  const T* const counts = reinterpret_cast<const T*>(memory + counts_at());
  if (job.scores) {
    int32_t* out = job.scores + first * classes;
    for (int j = 0; j < samples; ++j)
      for (int64_t c = 0; c < classes; ++c) *out++ = counts[c * kBlock + j];
  }
  if (job.classes) {
    int32_t* const best = reinterpret_cast<int32_t*>(memory + best_at());
    if constexpr (sizeof(T) == 2)
      kernels->argmax16(counts, classes, best);
    else
      kernels->argmax32(counts, classes, best);
    std::memcpy(job.classes + first, best, static_cast<size_t>(samples) * sizeof(int32_t));
  }
}

void LgnEngine::store_outputs(const Job& job, int64_t first, const uint8_t* memory) const {
  const int64_t word = first / 64, words = std::min<int64_t>(kBlock / 64, job.num_words - word);
  for (size_t i = 0; i < grouped.output_slot.size(); ++i) {
    uint64_t* const out = job.output_bits + static_cast<int64_t>(i) * job.num_words + word;
    const uint64_t flip = grouped.output_complemented[i] ? ~uint64_t(0) : 0;
    for (int64_t w = 0; w < words; ++w) {
      uint64_t bits = 0;
      if (!grouped.output_constant[i])
        std::memcpy(&bits, memory + size_t(grouped.output_slot[i]) * kSlotBytes + w * 8, 8);
      out[w] = bits ^ flip;
    }
  }
}

namespace {

const Kernels* kernels_of([[maybe_unused]] int32_t isa) {
#if defined(__x86_64__)
  if (isa == kAvx512) return &kAvx512Kernels;
  if (isa == kAvx2) return &kAvx2Kernels;
#endif
  return &kGenericKernels;
}

void build(LgnEngine* engine, const LgnCircuit& circuit, std::string* message) {
  engine->inputs = circuit.inputs;
  engine->classes = circuit.classes;
  engine->group = circuit.outputs / circuit.classes;
  engine->narrow_counts = engine->group <= 32767 && engine->classes <= 32767;
  engine->offset.assign(static_cast<size_t>(circuit.classes), 0);
  if (engine->kind == kMachineCode) {
    const bool wide = engine->isa == kAvx512;
    const FusedProgram program = wide ? fuse_group_sums(circuit) : fuse_group_sums2(circuit);
    const uint32_t inputs = static_cast<uint32_t>(circuit.inputs);
    MachineCode code = wide ? emit_avx512(program, inputs) : emit_avx2(program, inputs);
    if (!engine->buffer.make(code.code, message)) return;
    engine->pieces = std::move(code.pieces);
    engine->plane_slots = std::move(code.plane_slots);
    engine->offset = program.offset;
    engine->slots = std::max<uint32_t>(code.slots, static_cast<uint32_t>(circuit.inputs));
    engine->operations = static_cast<int64_t>(program.operations.size());
    engine->bytes = static_cast<int64_t>(code.code.size());
    engine->loads = code.loads;
    engine->stores = code.stores;
    return;
  }
  engine->grouped = group_gates(circuit);
  const GroupedProgram& program = engine->grouped;
  engine->slots = program.slots;
  engine->operations = static_cast<int64_t>(program.narrow.size() + program.wide.size() / 3);
  engine->bytes = static_cast<int64_t>(program.narrow.size() * 8 + program.wide.size() * 4);
  for (int64_t i = 0; i < circuit.outputs; ++i)
    if (program.output_constant[i] == 2) ++engine->offset[i / engine->group];
}

}  // namespace

int32_t lgn_best_isa(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return kAvx512;
  if (__builtin_cpu_supports("avx2")) return kAvx2;
#endif
  return kGeneric;
}

LgnEngine* lgn_engine_new(const LgnCircuit* circuit, int32_t kind, int32_t isa, char* message, int64_t size) {
  std::string reason;
  LgnEngine* engine = nullptr;
  try {
    const int32_t best = lgn_best_isa();
    if (isa > best)
      reason = "this processor does not have the instruction set";
    else if (kind == kMachineCode && isa < kAvx2)
      reason = "machine code needs AVX2";
    else if (circuit->c && (kind == kInterpreter || isa == kAvx2))
      reason = "gates of three operands need machine code for AVX-512";
    if (reason.empty()) {
      auto built = std::make_unique<LgnEngine>();
      built->kind = kind;
      built->isa = isa;
      built->kernels = kernels_of(isa);
      build(built.get(), *circuit, &reason);
      if (reason.empty()) engine = built.release();
    }
  } catch (const std::bad_alloc&) {
    reason = "out of memory";
  }
  if (!engine && size > 0) {
    std::strncpy(message, reason.c_str(), static_cast<size_t>(size) - 1);
    message[size - 1] = 0;
  }
  return engine;
}

int lgn_engine_set_loops(LgnEngine* engine, int64_t inputs, int64_t register_slots, const LgnLoopStep* steps,
                         int64_t count) try {
  engine->loops = std::make_unique<Loops>(inputs, register_slots, steps, count);
  engine->operations += engine->loops->operations();
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}

void lgn_engine_free(LgnEngine* engine) { delete engine; }

int64_t lgn_engine_info(const LgnEngine* engine, int32_t what) {
  const int64_t values[] = {engine->slots, engine->operations, engine->bytes, engine->loads, engine->stores, kBlock};
  return what < 0 || what > 5 ? -1 : values[what];
}

namespace {

// Runs a job whose inputs are set on so many samples.
int run_samples(const LgnEngine* engine, Job job, int64_t samples, int32_t threads, int32_t* scores,
                int32_t* classes) try {
  job.samples = samples;
  job.scores = scores;
  job.classes = classes;
  engine->run(job, threads);
  return 0;
} catch (const std::bad_alloc&) {
  return -1;
}

}  // namespace

int lgn_engine_bytes(const LgnEngine* engine, const uint8_t* rows, int64_t row, const uint8_t* levels,
                     int64_t num_levels, int64_t samples, int32_t threads, int32_t* scores, int32_t* classes) {
  Job job;
  job.rows = rows;
  job.row = row;
  job.levels = levels;
  job.num_levels = num_levels;
  return run_samples(engine, job, samples, threads, scores, classes);
}

int lgn_engine_rows(const LgnEngine* engine, const uint8_t* rows, int64_t size, const LgnComparison* comparisons,
                    int64_t count, int64_t samples, int32_t threads, int32_t* scores, int32_t* classes) {
  const LgnComparison none{};
  Job job;
  job.rows = rows;
  job.row = size;
  job.comparisons = count ? comparisons : &none;
  job.num_levels = count;
  return run_samples(engine, job, samples, threads, scores, classes);
}

int lgn_engine_packed(const LgnEngine* engine, const uint64_t* inputs, int64_t words, int64_t samples, int32_t threads,
                      int32_t* scores, int32_t* classes, uint64_t* output_bits) {
  if (output_bits && engine->kind == kMachineCode) return -2;  // its sums have swallowed the outputs
  Job job;
  job.words = inputs;
  job.num_words = words;
  job.output_bits = output_bits;
  return run_samples(engine, job, samples, threads, scores, classes);
}
