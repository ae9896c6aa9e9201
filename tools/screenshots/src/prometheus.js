// Query Prometheus as Grafana's data source does, and convert the results to data frames.
import { createDataFrame, FieldType } from '@grafana/data';

const SCRAPE_SECONDS = 15;

function stepOf(range, pixels, leastMinutes) {
  const steps = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600];
  const wanted = (range.to - range.from) / pixels;
  return steps.find((step) => step >= Math.max(wanted, SCRAPE_SECONDS, 60 * Number.parseInt(leastMinutes ?? '0', 10)));
}

function filledIn(expression, variables, range, step) {
  const seconds = Math.round(range.to - range.from);
  const times = {
    __rate_interval: `${Math.max(step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)}s`,
    __interval: `${step}s`,
    __range: `${seconds}s`,
  };
  const values = { ...variables, ...times };
  return expression.replace(/\$\{?(\w+)\}?/g, (whole, name) => values[name] ?? whole);
}

async function ask(path, parameters) {
  const response = await fetch(`/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(parameters) });
  const answer = await response.json();
  if (answer.status !== 'success') {
    throw new Error(`${answer.error}\n${parameters.query}`);
  }
  return answer.data.result;
}

const named = (legend, labels) => legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');
const bound = (series) => (series.metric.le === '+Inf' ? Infinity : Number(series.metric.le));

// Convert cumulative buckets to counts between two bounds.
function separated(buckets) {
  const sorted = [...buckets].sort((one, other) => bound(one) - bound(other));
  return sorted.map((series, index) => {
    const below = new Map(index ? sorted[index - 1].values : []);
    return { ...series, values: series.values.map(([time, value]) => [time, value - (below.get(time) ?? 0)]) };
  });
}

// Give every step a value, or null for a gap.
function rangeFrame(target, series, range, step) {
  const known = new Map(series.values.map(([time, value]) => [Math.round(time), Number(value)]));
  const times = [];
  for (let time = range.from; time <= range.to; time += step) {
    times.push(time);
  }
  const config = { displayNameFromDS: named(target.legendFormat, series.metric), interval: step * 1000 };
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: times.map((time) => time * 1000), config: {} },
      { name: 'Value', type: FieldType.number, labels: series.metric, values: times.map((time) => known.get(time) ?? null), config },
    ],
  });
}

function tableFrame(target, result, isOnlyOne) {
  const labels = [...new Set(result.flatMap((series) => Object.keys(series.metric)))].sort();
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map((series) => series.value[0] * 1000), config: {} },
      ...labels.map((label) => ({
        name: label, type: FieldType.string, values: result.map((series) => series.metric[label] ?? null), config: {},
      })),
      {
        name: isOnlyOne ? 'Value' : `Value #${target.refId}`,
        type: FieldType.number, values: result.map((series) => Number(series.value[1])), config: {},
      },
    ],
  });
}

async function framesOf(target, panel, variables, range, step) {
  const query = filledIn(target.expr, variables, range, step);
  if (target.format === 'table') {
    const result = await ask('query', { query, time: range.to });
    return result.length ? [tableFrame(target, result, panel.targets.length === 1)] : [];
  }
  if (target.instant) {
    const result = await ask('query', { query, time: range.to });
    return result.map((series) => rangeFrame(target, { ...series, values: [series.value] }, { from: range.to, to: range.to }, step));
  }
  const result = await ask('query_range', { query, start: range.from, end: range.to, step });
  const series = target.format === 'heatmap' ? separated(result) : result;
  return series.map((one) => rangeFrame(target, one, range, step));
}

export async function load(panel, variables, range, pixels) {
  const answers = await Promise.all(
    panel.targets.map((target) => {
      const step = stepOf(range, pixels, target.interval);
      const aligned = { from: Math.floor(range.from / step) * step, to: Math.floor(range.to / step) * step };
      return framesOf(target, panel, variables, aligned, step);
    })
  );
  return answers.flat();
}
