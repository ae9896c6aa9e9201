// Field options and transformations that Grafana applies before it draws a panel.
import * as data from '@grafana/data';

const PROCESSED = {
  unit: data.unitOverrideProcessor,
  min: data.numberOverrideProcessor,
  max: data.numberOverrideProcessor,
  decimals: data.numberOverrideProcessor,
  displayName: data.displayNameOverrideProcessor,
  thresholds: data.thresholdsOverrideProcessor,
  mappings: data.valueMappingsOverrideProcessor,
  links: data.dataLinksOverrideProcessor,
};
const PLAIN = ['noValue', 'color'];
const CUSTOM = [
  'align', 'axisBorderShow', 'axisLabel', 'axisPlacement', 'axisSoftMax', 'cellOptions', 'drawStyle', 'fillOpacity', 'filterable',
  'inspect', 'lineInterpolation', 'lineStyle', 'lineWidth', 'pointSize', 'showPoints', 'spanNulls', 'stacking',
  'thresholdsStyle', 'width',
];

const registry = new data.FieldConfigOptionsRegistry();

function register(id, path, isCustom, process = (value) => value) {
  registry.register({
    id, path, isCustom, process, name: id, settings: {},
    editor: () => null, override: () => null, shouldApply: () => true, getItemsCount: () => 0,
  });
}

Object.entries(PROCESSED).forEach(([id, process]) => register(id, id, false, process));
PLAIN.forEach((id) => register(id, id, false));
CUSTOM.forEach((id) => register(`custom.${id}`, id, true));

data.standardTransformersRegistry.setInit(() =>
  [data.standardTransformers.mergeTransformer, data.standardTransformers.organizeFieldsTransformer].map(
    (transformation) => ({ id: transformation.id, name: transformation.id, editor: () => null, transformation })
  )
);

export const theme = data.createTheme({ colors: { mode: 'dark' } });

export function transformed(panel, frames) {
  if (!panel.transformations) {
    return Promise.resolve(frames);
  }
  const context = { interpolate: (text) => text };
  return new Promise((resolve, reject) =>
    data.transformDataFrame(panel.transformations, frames, context).subscribe({ next: resolve, error: reject })
  );
}

export function configured(panel, frames) {
  return data.applyFieldOverrides({
    data: frames,
    fieldConfig: panel.fieldConfig,
    theme,
    timeZone: 'utc',
    replaceVariables: (text) => text,
    fieldConfigRegistry: registry,
  });
}
