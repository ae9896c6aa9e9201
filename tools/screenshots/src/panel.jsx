import React, { useEffect, useState } from 'react';
import { dateTime, FieldType, getFieldDisplayName, reduceField } from '@grafana/data';
import { BigValue, PanelChrome, Table, TimeSeries } from '@grafana/ui';

import { configured, theme, transformed } from './grafana';
import { Heatmap } from './heatmap';
import { load } from './prometheus';
import { Timeline } from './timeline';

function Stat({ panel, frames, width, height }) {
  const options = panel.options;
  const frame = frames[0];
  const field = frame.fields.find((one) => one.type === FieldType.number);
  const value = reduceField({ field, reducers: options.reduceOptions.calcs })[options.reduceOptions.calcs[0]];
  const shown = { ...field.display(value), title: getFieldDisplayName(field, frame, frames) };
  const sparkline = options.graphMode === 'area' ? { y: field, x: frame.fields[0] } : undefined;
  return (
    <BigValue
      theme={theme} width={width} height={height} value={shown} sparkline={sparkline} colorMode={options.colorMode}
      graphMode={options.graphMode} justifyMode={options.justifyMode} textMode={options.textMode}
    />
  );
}

function Graph({ panel, frames, range, width, height }) {
  const { legend } = panel.options;
  const times = { from: dateTime(range.from * 1000), to: dateTime(range.to * 1000), raw: { from: 'now-1h', to: 'now' } };
  return <TimeSeries frames={frames} structureRev={1} timeRange={times} timeZone="utc" width={width} height={height} legend={legend} />;
}

function Rows({ panel, frames, width, height }) {
  return <Table data={frames[0]} width={width} height={height} initialSortBy={panel.options.sortBy} cellHeight={panel.options.cellHeight} />;
}

const KINDS = { stat: Stat, timeseries: Graph, table: Rows, 'state-timeline': Timeline, heatmap: Heatmap };

function Empty({ panel }) {
  return <div data-empty={panel.title} className="empty">{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
}

class Guard extends React.Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    const { error } = this.state;
    return error ? <pre data-error>{String(error.stack)}</pre> : this.props.children;
  }
}

export function Panel({ panel, place, variables, range, onDone }) {
  const [frames, setFrames] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    load(panel, variables, range, place.width)
      .then((loaded) => transformed(panel, loaded))
      .then((loaded) => setFrames(configured(panel, loaded)))
      .catch(setError)
      .finally(onDone);
  }, []);
  const Kind = KINDS[panel.type];
  const isEmpty = frames && !frames.some((frame) => frame.length);
  return (
    <div className="panel" style={{ ...place, left: place.x, top: place.y }}>
      <PanelChrome title={panel.title} description={panel.description} width={place.width} height={place.height}>
        {(width, height) => (
          <Guard>
            {error && <pre data-error>{String(error.stack)}</pre>}
            {isEmpty && <Empty panel={panel} />}
            {frames && !isEmpty && <Kind panel={panel} frames={frames} range={range} width={width} height={height} />}
          </Guard>
        )}
      </PanelChrome>
    </div>
  );
}
