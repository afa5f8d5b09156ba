// Runs kernels on request: memory and launches by a binary protocol on standard input and output (see the client,
// src/vit/kernels/cuda/tests/emulator.rs).
#include "kernels.cu"

#include <utility>

namespace {
// Bytes on both sides of an allocation that no kernel may write; as numbers they are NaN, so that reading them shows.
constexpr size_t GUARD = 4096;
struct Allocation {
  unsigned char* start;
  size_t length;
};
std::vector<Allocation> allocations;

template <typename T> T get() {
  T value;
  if (fread(&value, sizeof(T), 1, stdin) != 1) exit(0);
  return value;
}
std::string get_text() {
  std::string text(get<uint32_t>(), ' ');
  if (!text.empty() && fread(text.data(), text.size(), 1, stdin) != 1) emulator::fail("a request ends early");
  return text;
}

void check_guards() {
  for (const Allocation& one : allocations)
    for (size_t i = 0; i < GUARD; i++)
      if (one.start[i] != 0xff || one.start[GUARD + one.length + i] != 0xff)
        emulator::fail("a kernel wrote outside its arrays");
}

void allocate() {
  const size_t length = get<uint64_t>();
  unsigned char* start = (unsigned char*)aligned_alloc(GUARD, (length + 3 * GUARD - 1) / GUARD * GUARD);
  memset(start, 0xff, length + 2 * GUARD);
  allocations.push_back({start, length});
  const uint64_t address = (uint64_t)(start + GUARD);
  fwrite(&address, sizeof(address), 1, stdout);
}

void launch() {
  emulator::backwards = get<uint32_t>();
  const std::string name = get_text();
  const uint32_t x = get<uint32_t>(), y = get<uint32_t>(), z = get<uint32_t>(), threads = get<uint32_t>();
  std::vector<uint64_t> arguments(get<uint32_t>());
  for (uint64_t& one : arguments) one = get<uint64_t>();
  const auto kernel = emulator::kernels().find(name);
  if (kernel == emulator::kernels().end()) emulator::fail(("there is no kernel " + name).c_str());
  emulator::launch({x, y, z}, threads, [&] { kernel->second(arguments); });
  check_guards();
}
}  // namespace

int main() {
  for (;;) {
    switch (get<uint32_t>()) {
      case 0: allocate(); break;
      case 1: {
        void* to = (void*)get<uint64_t>();
        const size_t length = get<uint64_t>();
        if (length && fread(to, length, 1, stdin) != 1) emulator::fail("a request ends early");
        break;
      }
      case 2: {
        const void* from = (const void*)get<uint64_t>();
        const size_t length = get<uint64_t>();
        fwrite(from, 1, length, stdout);
        break;
      }
      case 3: launch(); break;
      default: emulator::fail("an unknown request");
    }
    fflush(stdout);
  }
}
