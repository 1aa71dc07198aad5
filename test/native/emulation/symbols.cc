// Reads the full symbol table (.symtab) of the file that an address was loaded from: kernels are local to their file,
// so that dladdr, which sees exported symbols only, does not know them.
#include "symbols.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>

namespace comface::cuda::emulation {
namespace {

constexpr const char* kSharedTag = "B14comface_shared";  // as the compiler writes device.h's abi_tag

struct Named {
  std::string name;
  SharedArray array;
};

struct Library {
  std::map<uintptr_t, std::string> functions;
  std::vector<Named> arrays;
};

std::string readFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/** `count` structs at `offset`, none if the file ends before. */
template <class T>
std::vector<T> structsAt(const std::string& file, size_t offset, size_t count) {
  if (offset > file.size() || count > (file.size() - offset) / sizeof(T)) return {};
  std::vector<T> structs(count);
  std::memcpy(structs.data(), file.data() + offset, count * sizeof(T));
  return structs;
}

Library readLibrary(const char* path, uintptr_t base) {
  Library library;
  const std::string file = readFile(path);
  const auto headers = structsAt<Elf64_Ehdr>(file, 0, 1);
  if (headers.empty() || std::memcmp(headers[0].e_ident, ELFMAG, SELFMAG) != 0) return library;
  if (headers[0].e_type == ET_EXEC) base = 0;  // linked for a fixed address
  const auto sections = structsAt<Elf64_Shdr>(file, headers[0].e_shoff, headers[0].e_shnum);
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
    const size_t names = sections[section.sh_link].sh_offset;
    for (const Elf64_Sym& symbol : structsAt<Elf64_Sym>(file, section.sh_offset, section.sh_size / sizeof(Elf64_Sym))) {
      if (symbol.st_shndx == SHN_UNDEF || names + symbol.st_name >= file.size()) continue;
      const char* const name = file.c_str() + names + symbol.st_name;
      const uintptr_t address = base + symbol.st_value;
      const int type = ELF64_ST_TYPE(symbol.st_info);
      if (type == STT_FUNC) library.functions.emplace(address, name);
      if (type == STT_OBJECT && std::strstr(name, kSharedTag)) {
        library.arrays.push_back({name, {reinterpret_cast<char*>(address), symbol.st_size}});
      }
    }
  }
  return library;
}

void removeAll(std::string& text, const std::string& part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part)) text.erase(at, part.size());
}

/** "relu<float>" of "_ZN7comface4cuda12_GLOBAL__N_14reluIfEEvPKT_PS3_m". */
std::string shortName(const std::string& mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> full(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status), &std::free);
  if (status != 0) return mangled;
  std::string name = full.get();
  removeAll(name, "(anonymous namespace)::");
  removeAll(name, "comface::cuda::");
  if (name.rfind("void ", 0) == 0) name.erase(0, 5);
  int depth = 0;  // a parenthesis within <> belongs to a template's argument
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (name[i] == '(' && depth == 0) return name.substr(0, i);
  }
  return name;
}

const Library& libraryOf(const void* address) {
  static auto& libraries = *new std::map<uintptr_t, Library>;
  static const Library& none = *new Library;
  Dl_info info{};
  if (dladdr(address, &info) == 0) return none;
  const uintptr_t base = reinterpret_cast<uintptr_t>(info.dli_fbase);
  const auto found = libraries.find(base);
  if (found != libraries.end()) return found->second;
  // Of a program itself, the loader's name may be what the shell was given, relative to a folder long left.
  const bool isProgram = !std::strchr(info.dli_fname, '/') || !std::ifstream(info.dli_fname);
  return libraries.emplace(base, readLibrary(isProgram ? "/proc/self/exe" : info.dli_fname, base)).first->second;
}

}  // namespace

const KernelFacts& factsOf(const void* kernel) {
  static auto& known = *new std::map<const void*, KernelFacts>;
  const auto found = known.find(kernel);
  if (found != known.end()) return found->second;
  const Library& library = libraryOf(kernel);
  const auto function = library.functions.find(reinterpret_cast<uintptr_t>(kernel));
  KernelFacts facts;
  if (function == library.functions.end()) {
    char address[40];
    std::snprintf(address, sizeof address, "the kernel at %p", kernel);
    facts.name = address;
  } else {
    facts.name = shortName(function->second);
  }
  // A function is _Z<its code>, what is local to it _ZZ<its code>E<name>.
  const std::string prefix = function == library.functions.end() ? "" : "_Z" + function->second.substr(1) + "E";
  for (const Named& named : library.arrays) {
    const bool isOwn = !prefix.empty() && named.name.compare(0, prefix.size(), prefix) == 0;
    (isOwn ? facts.own : facts.others).push_back(named.array);
  }
  return known.emplace(kernel, std::move(facts)).first->second;
}

}  // namespace comface::cuda::emulation
