# Tests of the doubles of cuDNN and cuBLASLt. Included by CMakeLists.txt beside it, after the libraries.
file(GLOB checks CONFIGURE_DEPENDS checks/*.cc)
add_executable(emulation-doubles doubles.cc ${checks})
comface_emulated(emulation-doubles)
target_link_libraries(emulation-doubles PRIVATE cudnn_double cublasLt_double comface_cudart_emulated)
install(TARGETS emulation-doubles RUNTIME DESTINATION .)
