import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, nowSeconds, required } from './call.ts';
import { collection, page } from './collections.ts';
import { storedFile } from './files.ts';

/** Like Azure: pending, without an organization and result files. */
const jobs = collection(
  'fine_tuning.job',
  'ftjob',
  (call) => {
    const { json } = call;
    const files = [required(json, 'training_file'), json.validation_file];
    for (const file of files) if (typeof file === 'string') storedFile(call, file);
    return {
      model: required(json, 'model'),
      organization_id: null,
      result_files: null,
      fine_tuned_model: null,
      finished_at: null,
      error: null,
      trained_tokens: null,
      training_file: json.training_file,
      validation_file: json.validation_file ?? null,
      hyperparameters: json.hyperparameters ?? { n_epochs: 1, batch_size: 1, learning_rate_multiplier: 1 },
      method: json.method ?? { type: 'supervised' },
      seed: json.seed ?? 0,
      suffix: json.suffix ?? null,
      status: 'pending',
    };
  },
  { separator: '-', createdStatus: 201 },
);

/** The current status of a job. */
const gone =
  (status: string, more: () => Json = () => ({})) =>
  (call: Call, id = ''): Behaviour =>
    jobs.change(call, [id], { status, ...more() });

export const fineTuning = {
  ...jobs,
  cancel: gone('cancelled', () => ({ finished_at: nowSeconds() })),
  pause: gone('paused'),
  resume: gone('pending'),
  events: (call: Call, id = ''): Behaviour => {
    const { created_at, status } = jobs.known(call, id);
    const event = (number: number, message: string) => ({
      id: `ftevent-${number}-${id}`,
      object: 'fine_tuning.job.event',
      created_at,
      level: 'info',
      message,
      type: 'message',
      data: null,
    });
    const events = [event(0, 'Job enqueued. Waiting for jobs ahead to complete.')];
    return page(status === 'pending' ? events : [event(1, `Job ${status}.`), ...events]);
  },
  checkpoints: (call: Call, id = ''): Behaviour => {
    const { created_at, model } = jobs.known(call, id);
    return page([
      {
        id: `ftchkpt-${id}`,
        object: 'fine_tuning.job.checkpoint',
        created_at,
        fine_tuned_model_checkpoint: `${model}.ft-${id}:ckpt-step-1`,
        fine_tuning_job_id: id,
        metrics: { step: 1, train_loss: 1, train_mean_token_accuracy: 0.5 },
        step_number: 1,
      },
    ]);
  },
};
