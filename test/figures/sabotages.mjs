// What sabotage.mjs breaks: one edit each, of a text that stands once in its file. A change of that text moves the edit with it.

/**
 * @typedef {object} Sabotage
 * @property {string} figure The one that has to fail.
 * @property {string} what The damage, in words.
 * @property {string} file
 * @property {string} from
 * @property {string} to
 */

/** Figures that nothing here breaks, and why. @type {Readonly<Record<string, string>>} */
export const unbroken = {
  N5: 'it needs a GPU',
};

const checkpoint = 'lib/train/checkpoint.ts';
const files = 'lib/train/files.ts';
const training = 'lib/train/train.ts';
const beginning = 'lib/train/begin.ts';
const addon = 'native/addon.cc';
const engine = 'native/engine.cc';

/** Whatever a command computes then holds up all else in its process. */
const onTheJavaScriptThread = {
  what: 'commands run on the JavaScript thread',
  file: addon,
  from: 'std::move(answer), nullptr, underway_)',
  to: '[made = std::make_shared<Convert>(answer())] { return *made; }, nullptr, underway_)',
};

/** @type {readonly Sabotage[]} */
export const sabotages = [
  {
    figure: 'R1',
    what: "Adam's moments are not restored",
    file: beginning,
    from: 'writeState(engine, found.weights, found.optimizer',
    to: 'writeState(engine, found.weights, undefined',
  },
  {
    figure: 'R1',
    what: 'a resumed log keeps the lines of later steps',
    file: 'lib/train/log.ts',
    from: "if (typeof event.step === 'number' && event.step > this.#lastStep) return false;",
    to: '',
  },
  {
    figure: 'R2',
    what: 'files are not synced',
    file: files,
    from: '        await handle.writeFile(bytes);\n        await handle.sync();',
    to: '        await handle.writeFile(bytes);',
  },
  {
    figure: 'R2',
    what: 'folders are not synced',
    file: files,
    from: 'closing(handle, () => handle.sync())',
    to: 'closing(handle, async () => {})',
  },
  {
    figure: 'R2',
    what: 'old checkpoints go before the new one is on the disk',
    file: checkpoint,
    from: '  await files.syncDirectory(parent);\n  await prune(files, parent, state.step, options.keep, left);',
    to: '  await prune(files, parent, state.step, options.keep, left);\n  await files.syncDirectory(parent);',
  },
  {
    figure: 'R3',
    what: 'an error of close() hides the one before',
    file: files,
    from: 'await handle.close().catch(() => {});',
    to: 'await handle.close();',
  },
  {
    figure: 'R3',
    what: 'too many open files counts as a missing file',
    file: checkpoint,
    from: "if (['ENOENT', 'ENOTDIR', 'EISDIR']",
    to: "if (['ENOENT', 'ENOTDIR', 'EISDIR', 'EMFILE']",
  },
  {
    figure: 'R4',
    what: "only one of Adam's moments is restored",
    file: 'lib/train/state.ts',
    from: 'if (optimizer) for (const [slot, suffix] of moments)',
    to: 'if (optimizer) for (const [slot, suffix] of moments.slice(1))',
  },
  {
    figure: 'R5',
    what: 'hashes are not compared',
    file: checkpoint,
    from: 'if (actual !== expected.sha256)',
    to: 'if (actual.length !== 64)',
  },
  {
    figure: 'R6',
    what: 'nobody clears up after a kill',
    file: 'lib/train/lock.ts',
    from: "tidy(join(runDir, 'checkpoints'),",
    to: "tidy(join(runDir, 'nowhere'),",
  },
  {
    figure: 'R7',
    what: 'a stopped run does not save',
    file: training,
    from: '  yield* saveNow(run);\n  throw reason;',
    to: '  throw reason;',
  },
  {
    figure: 'R8',
    what: "a view's draws depend on the thread that makes it",
    file: 'native/batches.cc',
    from: 'augmentView(*pictures[v], size_, plan.settings, keyOf(plan, slot, v)',
    to: 'augmentView(*pictures[v], size_, plan.settings, keyOf(plan, slot + static_cast<int>(&worker - workers_.data()), v)',
  },
  {
    figure: 'R9',
    what: 'weights begin at the time of day',
    file: beginning,
    from: 'engine.initialize(BigInt(config.seed))',
    to: 'engine.initialize(BigInt(Date.now()))',
  },
  {
    figure: 'R10',
    what: 'a shard under way has the name of a finished one',
    file: 'lib/data/shards.ts',
    from: 'const part = partOf(path); //',
    to: 'const part = path; //',
  },
  {
    figure: 'R10',
    what: 'a packing that goes on forgets what was no good',
    file: 'lib/data/pack.ts',
    from: 'for (const [index, reason] of entry.rejected) this.#reasons.set(index, reason);',
    to: '',
  },
  {
    figure: 'F1',
    what: 'a layer may read one that comes later',
    file: 'native/graph.cc',
    from: 'layer.inputs[k] < 0 || layer.inputs[k] >= i) refuse',
    to: 'layer.inputs[k] < 0) refuse',
  },
  {
    figure: 'F1',
    what: 'a key of a choice begins at its last tab',
    file: 'native/choices.cc',
    from: "line.find('\\t')",
    to: "line.rfind('\\t')",
  },
  {
    figure: 'F1',
    what: 'the table of a shard has no room for its last place',
    file: 'native/shards.cc',
    from: 'places_.resize(uint64_t{count} + 1);',
    to: 'places_.resize(uint64_t{count});',
  },
  {
    figure: 'F2',
    what: 'tensors may leave bytes out',
    file: 'lib/weights/safetensors.ts',
    from: 'if (entry.begin !== at) throw',
    to: 'if (entry.begin < at) throw',
  },
  {
    figure: 'F2',
    what: 'a pickle may claim more bytes than it has',
    file: 'lib/weights/pickle.ts',
    from: 'if (!(length <= left)) {',
    to: 'if (length < 0) {',
  },
  {
    figure: 'F2',
    what: 'a tensor may have more elements than are stored',
    file: 'lib/weights/torchfile.ts',
    from: 'if (elements > storage.count) {',
    to: 'if (elements < 0) {',
  },
  {
    figure: 'F2',
    what: 'options in YAML may nest without end',
    file: 'lib/config.ts',
    from: 'if (parser.stack.length > kConfigDepth)',
    to: 'if (parser.stack.length > 1e9)',
  },
  {
    figure: 'F3',
    what: 'a broken picture counts as a good one',
    file: 'native/batches.cc',
    from: '      reason = error.message;\n',
    to: '      reason.clear();\n',
  },
  {
    figure: 'F4',
    what: 'accessors take any object for an engine',
    file: addon,
    from: '    if (!isTagged(self, kEngineTag)) throw Napi::TypeError::New(self.Env(), "Illegal invocation");\n',
    to: '',
  },
  {
    figure: 'F5',
    what: 'a model forgets that it was disposed of',
    file: 'lib/model.ts',
    from: 'this.#isDisposed = true;',
    to: 'this.#isDisposed = false;',
  },
  {
    figure: 'F6',
    what: 'the report leaves < as it is',
    file: 'lib/report/html.ts',
    from: '[&<>"',
    to: '[&>"',
  },
  {
    figure: 'M1',
    what: 'each step leaks 10 kB',
    file: engine,
    from: '  StepResult result;\n',
    to: '  StepResult result;\n  (new std::vector<char>(10000))->at(1) = 1;\n',
  },
  {
    figure: 'M2',
    what: 'an engine that is disposed of stays',
    file: addon,
    from: '      EngineHost::retire(host_);\n',
    to: '      (new std::shared_ptr<EngineHost>(host_))->get()->failed = true;\n',
  },
  {
    figure: 'M3',
    what: 'an engine that is dropped stays',
    file: addon,
    from: '    if (host_) release(env);\n',
    to: '    if (host_) new std::shared_ptr<EngineHost>(host_), (void)env;\n',
  },
  {
    figure: 'M4',
    what: 'calls under way leak when their thread ends',
    file: 'native/environment.cc',
    from: '  calls_.clear();',
    to: '  for (auto& [call, owned] : calls_) (void)owned.release();',
  },
  {
    figure: 'M5',
    what: 'the pool expects only errors of ours',
    file: 'native/pool.cc',
    from: '  } catch (...) {  // no memory for a thread',
    to: '  } catch (const Error&) {  // no memory for a thread',
  },
  { figure: 'E1', ...onTheJavaScriptThread },
  { figure: 'E2', ...onTheJavaScriptThread },
  { figure: 'E3', ...onTheJavaScriptThread },
  {
    figure: 'E4',
    what: 'an abort is looked at every 50 steps',
    file: training,
    from: 'if (signal?.aborted) return',
    to: 'if (signal?.aborted && run.done % 50 === 0) return',
  },
  {
    figure: 'T1',
    what: 'an environment ends before its engines have stopped',
    file: 'native/environment.cc',
    from: '    if (worker) worker->stop();',
    to: '    (void)worker;',
  },
  {
    figure: 'T2',
    what: 'a process that ends pulls the libraries from under a step',
    file: engine,
    from: '        if (jobsUnderway == 0) return;\n',
    to: '        return;\n',
  },
  {
    figure: 'T3',
    what: 'two batches are filled by the same threads at once',
    file: 'native/batches.cc',
    from: '    const std::lock_guard lock(mutex_);\n',
    to: '',
  },
  {
    figure: 'T4',
    what: 'first weights depend on where the add-on lies in memory',
    file: engine,
    from: 'rng::philox(seed, rng::kInit',
    to: 'rng::philox(seed + reinterpret_cast<uintptr_t>(&jobsUnderway), rng::kInit',
  },
  {
    figure: 'N1',
    what: 'a sign in the gradient of the relu of a difference',
    file: 'native/cpu/dense.cc',
    from: 'db[i] -= y[i] > 0 ? g[i] : 0;',
    to: 'db[i] += y[i] > 0 ? g[i] : 0;',
  },
  {
    figure: 'N1',
    what: 'attention forgets in its gradient that the shares of a query add up to one',
    file: 'native/cpu/transformer.cc',
    from: 'ds[t] = p[t] * (ds[t] - along) * scale;',
    to: 'ds[t] = p[t] * (ds[t] - 0 * along) * scale;',
  },
  {
    figure: 'N1',
    what: 'efficient attention forgets in its gradient that the shares of a channel add up to one',
    file: 'native/cpu/efficient.cc',
    from: '(m.rows[row + j] - along[j])',
    to: '(m.rows[row + j] - 0 * along[j])',
  },
  {
    figure: 'N2',
    what: 'a sign in the gradient of batch normalization',
    file: 'native/reference/norm.cc',
    from: 'sum / count - normalized(at) * product / count',
    to: 'sum / count + normalized(at) * product / count',
  },
  {
    figure: 'N3',
    what: 'the positive of InfoNCE weighs 1.9999 instead of 2',
    file: 'native/cpu/kernels.cc',
    from: 's[positive] -= 2;',
    to: 's[positive] -= 1.9999f;',
  },
  {
    figure: 'N4',
    what: 'a sign in the gradient of the relu of a difference',
    file: 'native/cuda/vectors.cu',
    from: 'return y > 0 ? sign * dy :',
    to: 'return y > 0 ? dy :',
  },
  {
    figure: 'N6',
    what: 'exact and quick GELU are exchanged',
    file: 'lib/models/vit.ts',
    from: 'quick: clip })',
    to: 'quick: !clip })',
  },
  {
    figure: 'N6',
    what: 'the stride of a stage in the wrong block',
    file: 'lib/models/resnet.ts',
    from: 'stage > 0 && index === 0 ? 2 : 1',
    to: 'stage > 0 && index === 1 ? 2 : 1',
  },
  {
    figure: 'N6',
    what: 'the learning rate is divided by 3',
    file: 'lib/train/schedule.ts',
    from: 'config.learningRate / 2',
    to: 'config.learningRate / 3',
  },
  {
    figure: 'N6',
    what: 'the gray of a picture has another weight of green',
    file: 'native/formulas.h',
    from: '0.587f * g',
    to: '0.588f * g',
  },
  {
    figure: 'N7',
    what: 'statistics are not looked at',
    file: engine,
    from: '  checkStatistics(plan.step);\n',
    to: '',
  },
  {
    figure: 'N8',
    what: 'a fold takes one subject too many',
    file: 'lib/transfer/folds.ts',
    from: 'at < size ?',
    to: 'at <= size ?',
  },
  {
    figure: 'N9',
    what: 'the sign of a map is that of its smaller end',
    file: 'lib/report/saliency.ts',
    from: 'Math.abs(least) > Math.abs(most) ? -1 : 1',
    to: 'Math.abs(least) > Math.abs(most) ? 1 : -1',
  },
];
