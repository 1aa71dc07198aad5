{
  # CMake builds everything (native/CMakeLists.txt). This file is for the tools that call node-gyp: prebuildify, npm rebuild.
  'targets': [
    {
      'target_name': 'comface',
      'type': 'none',
      'actions': [
        {
          'action_name': 'cmake_js',
          'message': 'Building with cmake-js',
          'inputs': ["<!@(node native/build.mjs --list-sources)"],
          'outputs': ['<(PRODUCT_DIR)/comface.node'],
          'action': ['node', 'native/build.mjs', '--config', '<(CONFIGURATION_NAME)', '--out', '<(PRODUCT_DIR)'],
        },
      ],
    },
  ],
}
